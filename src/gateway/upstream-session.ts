import { CloseCode } from '../protocol/close-codes.ts'
import type { MigrationReason } from './operator.ts'
import { Session, type SessionHost, type SessionIdentity } from './session.ts'
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

/** A connection that breaks sooner counts as one that was not made: not all who accept can serve. */
const steadyMs = 1_000

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
  /** They did not want this session, or did not keep it; they are asked again later. */
  private readonly unwilling = new Set<UpstreamEntry>()
  private lineOpenedAt = 0
  /** When the session lost its upstream; null once it has had one for a while. */
  private lostAt: number | null = null

  constructor(host: SessionHost, identity: SessionIdentity, dial: UpstreamDial) {
    super(host, identity)
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
    this.assign(node, this.nextTerm())
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

  override activate(
    target: UpstreamEntry,
    term: number,
    _sourceFinished: boolean,
    reason: MigrationReason,
  ): void {
    const { target: line } = this
    this.target = null
    this.unassign(false)
    this.assign(target, term, reason)
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
      node.bytes += item.payload.length
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
    line.entry.bytes += data.length
    this.meter?.count(data.length)
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
    } else if (line === this.line) this.closedByUpstream(line, code, reason)
  }

  private closedByUpstream({ entry }: UpstreamLine, code: number, reason: string): void {
    const leaves = leavingCodes.has(code) && this.movable
    const steady = this.host.now() - this.lineOpenedAt >= steadyMs
    this.line = null
    if (this.closing !== null) this.end()
    else if (leaves) {
      if (steady) this.kept()
      else this.unwilling.add(entry)
      this.reopen()
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
    this.lineOpenedAt = this.host.now()
    this.listen()
    this.pump()
  }

  private dialFailed(line: UpstreamLine, error: unknown): void {
    if (line === this.target) {
      const unreachable = error instanceof DialError && error.unanswered
      this.target = null
      this.move?.step(unreachable ? 'refused' : 'target-vetoed')
      return
    }
    this.unwilling.add(line.entry)
    this.line = null
    this.reopen()
  }

  /** The upstream is gone: another one, or the target of a move that is under way, gets the session. */
  private reopen(): void {
    this.lostAt ??= this.host.now()
    if (this.move !== null) {
      this.move.step('source-lost')
      return
    }
    this.unassign(false)
    // As long as it has been lost, however many were tried meanwhile.
    this.waitingSince = this.lostAt
    this.host.assign(this)
  }

  private kept(): void {
    this.lostAt = null
    this.unwilling.clear()
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
