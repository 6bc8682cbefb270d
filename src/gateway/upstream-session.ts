import { CloseCode } from '../protocol/close-codes.ts'
import type { ClientConnection } from './client-connection.ts'
import { Session, type SessionHost } from './session.ts'
import { DialError, type UpstreamDial } from './upstream-connection.ts'
import type { UpstreamEntry } from './upstream-entry.ts'
import { type LineOwner, UpstreamLine } from './upstream-line.ts'

/** With these an upstream says that it leaves, not that the conversation is over. */
const leavingCodes: ReadonlySet<number> = new Set([
  CloseCode.goingAway,
  CloseCode.abnormal,
  CloseCode.serviceRestart,
  CloseCode.tryAgainLater,
])

/** What an upstream that the session has left still has to say is waited for this long, before the next one is heard. */
const formerMs = 1_000

/**
 * A session whose node is an upstream: it has a connection of its own instead of records on a link, and a message is committed
 * when it is handed to that connection's socket.
 */
export class UpstreamSession extends Session implements LineOwner {
  declare node: UpstreamEntry | null
  private readonly dial: UpstreamDial
  /** To the present node; it may still be dialling. */
  private line: UpstreamLine | null = null
  /** To the target of a move. */
  private target: UpstreamLine | null = null
  /** To the node before, which has been told to end. */
  private former: UpstreamLine | null = null
  private formerTimer: NodeJS.Timeout | null = null
  /** They did not want this session; they are asked again later. */
  private readonly unwilling = new Set<UpstreamEntry>()

  constructor(
    host: SessionHost,
    number: number,
    id: string,
    pool: string,
    meta: string,
    address: string,
    transport: ClientConnection['transport'],
    dial: UpstreamDial,
  ) {
    super(host, number, id, pool, meta, address, transport)
    this.dial = dial
  }

  /** Begins over a line that is open: the client is there, and its upstream as well. */
  begin(line: UpstreamLine): void {
    this.assign(line.entry, this.nextTerm())
    this.line = line
    line.own(this)
    if (!line.ended) this.lineOpened(line)
  }

  override get movable(): boolean {
    return this.node?.migrate === 'redial' && this.dial.resumable
  }

  override get avoids(): ReadonlySet<UpstreamEntry> {
    return this.unwilling
  }

  override retry(): boolean {
    if (this.unwilling.size === 0) return false
    this.unwilling.clear()
    return true
  }

  // Assignment.

  override open(node: UpstreamEntry): void {
    const { waitingSince } = this
    this.assign(node, this.nextTerm())
    // It has not got one before it is open there.
    this.waitingSince = waitingSince ?? this.host.now()
    this.line = this.startLine(node)
  }

  override prepare(target: UpstreamEntry, _term: number): void {
    this.target = this.startLine(target)
  }

  override quiesce(_attempt: number): void {
    const { move, line } = this
    this.holding = true
    const finished = () => {
      if (this.move === move) move?.step('fin')
    }
    // Nothing was sent where there is no connection yet.
    if (line?.connection == null) setImmediate(finished)
    else line.connection.settle(finished)
  }

  override resume(_attempt: number): void {
    this.holding = false
    this.listen()
    this.pump()
  }

  override activate(target: UpstreamEntry, term: number, _sourceFinished: boolean): void {
    const { target: line } = this
    this.target = null
    this.unassign(false)
    this.assign(target, term)
    this.migrations++
    this.line = line
    if (line?.connection != null) this.lineOpened(line)
  }

  /** The former node heard of it when the session left. */
  override releaseFormer(): void {}

  override releaseTarget(): void {
    this.target?.terminate()
    this.target = null
  }

  override unassign(handled: boolean): void {
    super.unassign(handled)
    const { line } = this
    this.line = null
    if (line !== null) this.retire(line)
  }

  override withdraw(): void {
    this.move?.step('cancelled')
    this.unassign(false)
  }

  override closeAtDeadline(): void {
    if (this.closing === null) super.closeAtDeadline()
    else this.end()
  }

  protected override clientLeft(code: number, reason: string): void {
    super.clientLeft(code, reason)
    if (this.node === null && this.inbox.length === 0) this.end()
  }

  override end(): void {
    super.end()
    for (const line of [this.line, this.target]) line?.terminate()
    this.line = null
    this.target = null
    this.endFormer()
  }

  override pump(): void {
    const { node, inbox } = this
    const connection = this.line?.connection
    if (node === null || connection == null || this.holding) return
    while (!connection.congested) {
      const item = inbox.next()
      if (item === undefined) break
      connection.send(item.payload, item.text)
      node.messages++
    }
    if (inbox.sent > inbox.acked) this.commit(inbox.sent, null)
    if (this.closing === null || this.closeSent || this.move !== null || inbox.length > 0) return
    this.closeSent = true
    const { code, reason } = this.closing
    // The upstream sees a client that goes, whatever the gateway's reason was.
    connection.close(code === CloseCode.serviceRestart ? CloseCode.goingAway : code, reason)
    connection.resume()
  }

  protected override grant(): void {
    this.creditOwed = 0
    this.listen()
  }

  // Lines.

  lineMessage(line: UpstreamLine, data: Buffer, text: boolean): void {
    if (line !== this.line && line !== this.former) return
    this.deliver(0, data, 0, data.length, text)
    if (this.blocked) line.connection?.pause()
  }

  lineDrained(line: UpstreamLine): void {
    if (line === this.line) this.pump()
  }

  lineClosed(line: UpstreamLine, code: number, reason: string): void {
    if (line === this.target) {
      this.target = null
      this.move?.step('target-lost')
    } else if (line === this.former) {
      this.endFormer()
      this.listen()
    } else if (line === this.line) this.closedByUpstream(code, reason)
  }

  private closedByUpstream(code: number, reason: string): void {
    const leaves = leavingCodes.has(code) && this.movable
    this.line = null
    if (this.closing !== null) this.end()
    else if (leaves && this.move !== null) this.move.step('source-lost')
    else if (leaves) {
      this.unassign(false)
      this.host.assign(this)
    } else if (code === CloseCode.abnormal) this.closedByNode(CloseCode.badGateway, 'the server is gone')
    else this.closedByNode(code, reason)
  }

  private startLine(entry: UpstreamEntry): UpstreamLine {
    const line = new UpstreamLine(entry)
    line.open(this.dial).then(
      () => {
        line.own(this)
        if (!line.ended) this.lineOpened(line)
      },
      (error: unknown) => {
        if (!line.givenUp) this.dialFailed(line, error)
      },
    )
    return line
  }

  private lineOpened(line: UpstreamLine): void {
    if (line === this.target) {
      this.move?.step('ready')
      return
    }
    this.waitingSince = null
    this.unwilling.clear()
    this.listen()
    this.pump()
  }

  private dialFailed(line: UpstreamLine, error: unknown): void {
    const unreachable = error instanceof DialError && error.unanswered
    if (line === this.target) {
      this.target = null
      this.move?.step(unreachable ? 'refused' : 'target-vetoed')
      return
    }
    if (unreachable) line.entry.refuse()
    this.unwilling.add(line.entry)
    const { waitingSince, move } = this
    this.line = null
    if (move !== null) {
      move.step('source-lost')
      return
    }
    this.unassign(false)
    this.waitingSince = waitingSince
    this.host.assign(this)
  }

  /** Reads the upstream, unless its client does not keep up; the former one first, until it has ended. */
  private listen(): void {
    if (!this.blocked) (this.former ?? this.line)?.connection?.resume()
  }

  private retire(line: UpstreamLine): void {
    this.endFormer()
    if (line.ended || line.connection === null || this.ended) {
      line.terminate()
      return
    }
    this.former = line
    line.connection.close(CloseCode.goingAway, 'the session goes on at another server')
    this.formerTimer = setTimeout(() => {
      this.endFormer()
      this.listen()
    }, formerMs)
    this.listen()
  }

  private endFormer(): void {
    this.former?.terminate()
    this.former = null
    if (this.formerTimer !== null) clearTimeout(this.formerTimer)
    this.formerTimer = null
  }
}
