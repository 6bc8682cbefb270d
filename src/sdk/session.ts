import type { Link } from '../link/link.ts'
import { CloseCode, clipCloseReason, isSendableCloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { RecordFlag, RecordType, type SessionMeta } from '../protocol/link-records.ts'
import { checkedChannel } from './channels.ts'
import type { CloseReason, Json, MessageContext, Session, SessionHandlers } from './types.ts'

/** What the sessions of one link share. */
export interface SessionHost {
  readonly link: Link
  readonly handlers: SessionHandlers
  readonly atomic: boolean
  readonly messageBytes: number
  readonly stateBytes: number
  /** What a session may queue beyond its credit. */
  readonly queueBytes: number
  readonly lateOutputMs: number
  now(): number
  /** The session has something to commit at the end of this turn. */
  commitSoon(session: NodeSession): void
  /** The session waits for the link or the client. */
  waitForDrain(session: NodeSession): void
  forget(session: NodeSession): void
  failed(session: NodeSession, error: unknown, where: string): void
}

/**
 * importing → open → (quiescing → finished → moved) or (closing → gone).
 * `finished` can go back to `open`: the hand-over was called off.
 */
type Phase = 'importing' | 'open' | 'quiescing' | 'finished' | 'closing' | 'moved' | 'gone'

interface QueuedMessage extends MessageContext {
  readonly data: string | Uint8Array
}

/** An output that waits for credit, or a commit that must not overtake it. */
type QueuedOutput = { data: string | Uint8Array } | { ack: number; state: string | null }

export class NodeSession implements Session {
  readonly id: string
  readonly meta: SessionMeta
  readonly number: number
  readonly term: number
  recovered = false
  private readonly host: SessionHost
  private phase: Phase = 'importing'
  /** A handler is in flight (or `open` has not settled). */
  private busy = false
  private inbox: QueuedMessage[] = []
  private settled = 0
  private value: Json | undefined = undefined
  private stateJson: string | null = null
  private stateChanged = false

  private credit = 0
  private outputSeq = 0
  private outbox: QueuedOutput[] = []
  private outboxBytes = 0
  /** Outputs of the message being handled, with `delivery: 'atomic'`. */
  private held: (string | Uint8Array)[] = []
  private heldBytes = 0
  private drainWaiters: (() => void)[] = []

  /** What the next COMMIT says; written at the end of the turn, so that one covers all messages of the turn. */
  private commitAck = 0
  private commitState: string | null = null
  private commitDue = false

  private attempt = 0
  private resumeWanted = false
  private closeReason: CloseReason | null = null
  /** The client left; takes effect once the session is open. */
  private clientGone: CloseReason | null = null
  private movedAt = 0

  constructor(host: SessionHost, number: number, term: number, meta: SessionMeta) {
    this.host = host
    this.number = number
    this.term = term
    this.meta = meta
    this.id = meta.id
  }

  get open(): boolean {
    return this.phase === 'open' || this.phase === 'quiescing' || this.phase === 'closing'
  }

  get state(): Json | undefined {
    return this.value
  }

  set state(value: Json | undefined) {
    const json = value === undefined ? undefined : JSON.stringify(value)
    if (json === undefined) throw new EvenkeelError('BAD_REQUEST', 'session.state must be a JSON value')
    if (Buffer.byteLength(json) > this.host.stateBytes) {
      throw new EvenkeelError(
        'TOO_LARGE',
        `session.state has more than ${this.host.stateBytes} bytes as JSON; keep a key and store the rest elsewhere`,
      )
    }
    if (!this.open) return
    this.value = value
    this.stateJson = json
    this.stateChanged = true
    if (!this.busy) this.commit()
  }

  send(data: string | Uint8Array): boolean {
    const limit = this.host.messageBytes
    if (
      data.length > limit ||
      (typeof data === 'string' && data.length * 3 > limit && Buffer.byteLength(data) > limit)
    ) {
      throw new EvenkeelError('TOO_LARGE', `a message has at most ${limit} bytes`)
    }
    if (!this.open) return this.sendLate(data)
    if (!this.host.atomic) {
      this.emit(data)
    } else if (this.busy) {
      this.hold(data)
    } else {
      this.emit(data)
      this.commit()
    }
    return this.writable
  }

  drained(): Promise<void> {
    if (this.writable || !this.open) return Promise.resolve()
    this.host.waitForDrain(this)
    return new Promise((resolve) => this.drainWaiters.push(resolve))
  }

  join(channel: string): void {
    if (this.open) this.host.link.putName(RecordType.join, this.number, this.term, checkedChannel(channel))
  }

  leave(channel: string): void {
    if (this.open) this.host.link.putName(RecordType.leave, this.number, this.term, checkedChannel(channel))
  }

  close(code: number = CloseCode.normal, reason = ''): void {
    if (!isSendableCloseCode(code)) {
      throw new EvenkeelError(
        'BAD_REQUEST',
        `close code ${code} may not be sent; use 1000 to 1014 or 3000 to 4999`,
      )
    }
    if (!this.open) return
    this.flushHeld()
    this.flushOutbox(true)
    this.writeCommit()
    this.host.link.putClose(this.number, this.term, code, clipCloseReason(reason))
    this.depart({ code, reason, cause: 'node' })
  }

  // What follows is for the node, not for applications.

  /** The session is this node's now: OPEN, or ACTIVATE after PREPARE. */
  activate(credit: number, ack: number, out: number, state: string | null, recovered: boolean): void {
    this.credit = credit
    this.settled = ack
    this.commitAck = ack
    this.outputSeq = out
    this.stateJson = state
    this.recovered = recovered
    try {
      this.value = state === null ? undefined : JSON.parse(state)
    } catch (error) {
      // What another node has saved must not end this one.
      this.host.failed(this, error, 'open')
      this.host.link.putClose(this.number, this.term, CloseCode.internalError, 'the saved state is no JSON')
      this.end('gone')
      return
    }
    this.start()
  }

  receive(data: string | Uint8Array, seq: number, redelivered: boolean): void {
    const message = { data, seq, redelivered }
    if (this.phase === 'open' && !this.busy && this.inbox.length === 0) this.handle(message)
    else this.inbox.push(message)
  }

  addCredit(bytes: number): void {
    this.credit += bytes
    this.flushOutbox(false)
    this.wakeDrained()
  }

  quiesce(attempt: number): void {
    if (this.resumeWanted) {
      // Called off and asked again while the close hook runs: when it ends, it ends this attempt.
      this.resumeWanted = false
      this.attempt = attempt
      return
    }
    if (this.phase !== 'open') return
    this.phase = 'quiescing'
    this.attempt = attempt
    this.proceed()
  }

  resume(attempt: number): void {
    if (attempt !== this.attempt) return
    if (this.phase === 'quiescing') {
      if (this.closeReason === null) {
        this.phase = 'open'
        this.proceed()
      } else {
        this.resumeWanted = true
      }
    } else if (this.phase === 'finished') {
      this.recovered = true
      this.start()
    }
  }

  /** The session lives elsewhere. */
  release(): void {
    if (this.phase === 'finished') this.end('moved')
    else if (this.phase === 'importing') this.end('gone')
    else this.depart({ code: CloseCode.abnormal, reason: 'released by the gateway', cause: 'migrated' })
  }

  /** The client is gone; messages that came before are still handled. */
  clientClosed(code: number, reason: string): void {
    this.clientGone = { code, reason, cause: 'client' }
    this.proceed()
  }

  linkLost(): void {
    this.depart({ code: CloseCode.abnormal, reason: 'link lost', cause: 'link-lost' })
  }

  /** Writes the COMMIT that is due. */
  writeCommit(): void {
    if (!this.commitDue) return
    this.commitDue = false
    const state = this.commitState
    this.commitState = null
    this.putCommit(this.commitAck, state)
  }

  /** Returns false while somebody still has to wait. */
  wakeDrained(): boolean {
    if (this.drainWaiters.length === 0) return true
    if (this.open && !this.writable) return false
    const waiters = this.drainWaiters
    this.drainWaiters = []
    for (const resolve of waiters) resolve()
    return true
  }

  private get writable(): boolean {
    return this.credit > 0 && this.outbox.length === 0 && !this.host.link.congested
  }

  private start(): void {
    this.phase = 'open'
    this.closeReason = null
    const opened = this.guard('open', () => this.host.handlers.open?.(this))
    if (opened === undefined) this.proceed()
  }

  /** Goes on with whatever is due, unless a handler is in flight. */
  private proceed(): void {
    if (this.phase === 'open' && this.clientGone !== null) {
      this.phase = 'closing'
      this.closeReason = this.clientGone
    }
    while (!this.busy && (this.phase === 'open' || this.phase === 'closing') && this.inbox.length > 0) {
      this.handle(this.inbox.shift()!)
    }
    if (this.busy) return
    if (this.phase === 'quiescing' && this.closeReason === null) this.finish()
    else if (this.phase === 'closing') this.finishClosing()
  }

  private handle(message: QueuedMessage): void {
    const { handlers } = this.host
    if (handlers.message === undefined) {
      this.settle(message.seq)
      return
    }
    // `busy` during a synchronous handler too: that is how outputs and state know whose commit they belong to.
    this.busy = true
    let result: void | Promise<void>
    try {
      result = handlers.message(this, message.data, message)
    } catch (error) {
      this.fail(error, 'message')
      return
    }
    if (isPromise(result)) {
      result.then(
        () => {
          this.settle(message.seq)
          this.proceed()
        },
        (error) => this.fail(error, 'message'),
      )
    } else {
      this.settle(message.seq)
    }
  }

  private settle(seq: number): void {
    this.busy = false
    if (!this.open) return
    this.settled = seq
    this.flushHeld()
    this.commit()
  }

  private fail(error: unknown, where: string): void {
    this.busy = false
    this.held = []
    this.heldBytes = 0
    this.host.failed(this, error, where)
    this.close(CloseCode.internalError, 'handler failed')
  }

  /**
   * Runs a hook. Returns undefined when it settled at once, otherwise marks the session busy and goes on by `then`.
   * A hook that fails is reported; `open` that fails also closes the session.
   */
  private guard(
    where: 'open' | 'close',
    hook: () => void | Promise<void> | undefined,
    then = () => this.proceed(),
  ): Promise<void> | undefined {
    this.busy = true
    const failed = (error: unknown) => {
      if (where === 'open') this.fail(error, where)
      else this.host.failed(this, error, where)
    }
    const settled = () => {
      this.busy = false
      if (!this.open) return
      const due = this.stateChanged || this.held.length > 0
      this.flushHeld()
      if (due) this.commit()
    }
    try {
      const result = hook()
      if (isPromise(result)) {
        return result.catch(failed).then(() => {
          settled()
          then()
        })
      }
    } catch (error) {
      failed(error)
    }
    settled()
    return undefined
  }

  /** What was settled is to be committed: with the flush of this turn, or behind the outputs that wait for credit. */
  private commit(): void {
    const state = this.stateChanged ? this.stateJson : null
    this.stateChanged = false
    if (this.outbox.length > 0) {
      this.outbox.push({ ack: this.settled, state })
      return
    }
    this.commitAck = this.settled
    if (state !== null) this.commitState = state
    if (!this.commitDue) {
      this.commitDue = true
      this.host.commitSoon(this)
    }
  }

  private putCommit(ack: number, state: string | null): void {
    if (state === null) this.host.link.putU32(RecordType.commit, 0, this.number, this.term, ack)
    else this.host.link.putText(RecordType.commit, RecordFlag.state, this.number, this.term, ack, state)
  }

  private emit(data: string | Uint8Array): void {
    if (this.credit > 0 && this.outbox.length === 0) {
      this.putOutput(data)
      return
    }
    this.outbox.push({ data })
    this.outboxBytes += data.length
    if (this.outboxBytes > this.host.queueBytes) {
      this.outbox = []
      this.outboxBytes = 0
      this.close(CloseCode.slowConsumer, 'the client reads too slowly')
    }
  }

  private putOutput(data: string | Uint8Array): void {
    const flags = this.host.atomic ? RecordFlag.held : 0
    this.credit -= this.writeOutput(flags, ++this.outputSeq, data)
  }

  private writeOutput(flags: number, seq: number, data: string | Uint8Array): number {
    const { link } = this.host
    if (typeof data === 'string') {
      return link.putText(RecordType.output, flags | RecordFlag.text, this.number, this.term, seq, data)
    }
    link.putPayload(RecordType.output, flags, this.number, this.term, seq, data)
    return data.length
  }

  private hold(data: string | Uint8Array): void {
    this.held.push(data)
    this.heldBytes += data.length
    if (this.heldBytes > this.host.queueBytes) {
      throw new EvenkeelError(
        'TOO_LARGE',
        `the outputs of one atomic commit have at most ${this.host.queueBytes} bytes`,
      )
    }
  }

  private flushHeld(): void {
    if (this.held.length === 0) return
    const held = this.held
    this.held = []
    this.heldBytes = 0
    // One commit leaves whole: either all of it waits for credit or none.
    if (this.credit > 0 && this.outbox.length === 0) for (const data of held) this.putOutput(data)
    else for (const data of held) this.emit(data)
  }

  /** Sends what waits while there is credit; all of it when `whatever`. */
  private flushOutbox(whatever: boolean): void {
    if (this.outbox.length === 0) return
    this.writeCommit()
    let sent = 0
    // The gateway grants nothing for HELD outputs before their commit, so an atomic commit that was begun is finished.
    let begun = false
    for (const entry of this.outbox) {
      if ('data' in entry) {
        if (this.credit <= 0 && !whatever && !begun) break
        begun = this.host.atomic
        this.outboxBytes -= entry.data.length
        this.putOutput(entry.data)
      } else {
        this.putCommit(entry.ack, entry.state)
        begun = false
      }
      sent++
    }
    this.outbox.splice(0, sent)
  }

  private sendLate(data: string | Uint8Array): boolean {
    if (this.phase !== 'finished' && this.phase !== 'moved') return false
    // Nobody grants credit for it any more, so what was left at the hand-over is all there is.
    if (this.host.link.closed || this.credit <= 0) return false
    if (this.phase === 'moved' && this.host.now() - this.movedAt > this.host.lateOutputMs) return false
    this.credit -= this.writeOutput(RecordFlag.late, 0, data)
    return true
  }

  /** Hands over: the application saves its last state, everything is flushed, FIN ends the term. */
  private finish(): void {
    this.closeReason = { code: CloseCode.serviceRestart, reason: 'migrated', cause: 'migrated' }
    const reason = this.closeReason
    const fin = () => {
      if (this.phase !== 'quiescing') return
      this.flushOutbox(true)
      this.writeCommit()
      if (this.resumeWanted) {
        this.resumeWanted = false
        this.recovered = true
        this.start()
        return
      }
      this.phase = 'finished'
      this.host.link.putU32(RecordType.fin, 0, this.number, this.term, this.attempt)
      this.wakeDrained()
    }
    if (this.guard('close', () => this.host.handlers.close?.(this, reason), fin) === undefined) fin()
  }

  private finishClosing(): void {
    const reason = this.closeReason!
    const closed = () => {
      if (this.phase !== 'closing') return
      this.flushOutbox(true)
      this.writeCommit()
      this.host.link.put(RecordType.closed, 0, this.number, this.term)
      this.end('gone')
    }
    if (this.guard('close', () => this.host.handlers.close?.(this, reason), closed) === undefined) closed()
  }

  /** Ends without asking anyone, and tells the application unless it knows. */
  private depart(reason: CloseReason): void {
    if (this.phase === 'gone' || this.phase === 'moved') return
    const told = this.phase === 'importing' || this.phase === 'finished' || this.closeReason !== null
    this.end('gone')
    if (!told)
      this.guard(
        'close',
        () => this.host.handlers.close?.(this, reason),
        () => {},
      )
  }

  private end(phase: 'moved' | 'gone'): void {
    this.phase = phase
    this.movedAt = this.host.now()
    this.commitDue = false
    this.inbox = []
    this.outbox = []
    this.host.forget(this)
    this.wakeDrained()
  }
}

function isPromise(value: unknown): value is Promise<void> {
  return typeof value === 'object' && value !== null && typeof (value as Promise<void>).then === 'function'
}
