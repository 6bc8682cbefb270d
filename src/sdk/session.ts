import { CloseCode, clipCloseReason, isSendableCloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { type Continued, RecordFlag, RecordType, type SessionMeta } from '../protocol/link-records.ts'
import { checkedChannel } from './channels.ts'
import type { Assignment, SessionHost } from './session-host.ts'
import { SessionOutput } from './session-output.ts'
import type { CloseReason, Json, MessageContext, SendOptions, Session } from './types.ts'

/**
 * importing → open → (quiescing → finished → moved) or (closing → gone).
 * `finished` can go back to `open`: the hand-over was called off.
 */
type Phase = 'importing' | 'open' | 'quiescing' | 'finished' | 'closing' | 'moved' | 'gone'

interface QueuedMessage extends MessageContext {
  readonly data: string | Uint8Array
}

/** A session at its node: its phases, and the handlers that run for it. */
export class NodeSession implements Session {
  readonly id: string
  readonly meta: SessionMeta
  recovered = false
  private assignment: Assignment
  protected readonly output: SessionOutput
  protected phase: Phase = 'importing'
  /** A handler is in flight (or `open` has not settled). */
  private busy = false
  private inbox: QueuedMessage[] = []
  private settled = 0
  private value: Json | undefined = undefined
  private stateJson: string | null = null
  private stateChanged = false
  private drainWaiters: (() => void)[] = []
  /** Its messages go each by itself to any node. */
  stateless = false

  private attempt = 0
  /** FIN has left: the target may have the session. */
  protected handedOver = false
  private resumeWanted = false
  private closeReason: CloseReason | null = null
  /** The client left; takes effect once the session is open. */
  protected clientGone: CloseReason | null = null
  private movedAt = 0
  /** The application has prepared for it. */
  private prepared = false

  /** `keeping`: its outputs are kept until the client has acknowledged them. */
  constructor(assignment: Assignment, meta: SessionMeta, keeping = false) {
    this.assignment = assignment
    this.output = new SessionOutput(assignment, keeping, () =>
      this.close(CloseCode.slowConsumer, 'the client reads too slowly'),
    )
    this.meta = meta
    this.id = meta.id
  }

  get host(): SessionHost {
    return this.assignment.host
  }

  /** What the gateway calls the session. */
  get number(): number {
    return this.assignment.number
  }

  get term(): number {
    return this.assignment.term
  }

  /** The attempt of the hand-over that is or was last under way: the term that the target gets. */
  get handover(): number {
    return this.attempt
  }

  get open(): boolean {
    return this.isHere && this.clientGone === null
  }

  /** Its messages are handled here, also those that its client has left behind. */
  protected get isHere(): boolean {
    return this.phase === 'open' || this.phase === 'quiescing' || this.phase === 'closing'
  }

  get state(): Json | undefined {
    return this.value
  }

  set state(value: Json | undefined) {
    if (this.stateless)
      throw new EvenkeelError(
        'CONFLICT',
        'session.state: with affinity message each message may go to another node; keep it in a store that all share, or set affinity: session',
      )
    const json = value === undefined ? undefined : JSON.stringify(value)
    if (json === undefined) throw new EvenkeelError('BAD_REQUEST', 'session.state must be a JSON value')
    if (Buffer.byteLength(json) > this.host.stateBytes) {
      throw new EvenkeelError(
        'TOO_LARGE',
        `session.state has more than ${this.host.stateBytes} bytes as JSON; keep a key and store the rest elsewhere`,
      )
    }
    if (!this.isHere) return
    this.value = value
    this.stateJson = json
    this.stateChanged = true
    if (!this.busy) this.commit()
  }

  send(data: string | Uint8Array, options?: SendOptions): boolean {
    const limit = this.host.messageBytes
    if (
      data.length > limit ||
      (typeof data === 'string' && data.length * 3 > limit && Buffer.byteLength(data) > limit)
    ) {
      throw new EvenkeelError('TOO_LARGE', `a message has at most ${limit} bytes`)
    }
    const flags = options?.volatile === true ? RecordFlag.volatile : 0
    if (!this.isHere) return this.sendLate(data, flags)
    if (this.clientGone !== null) return false
    if (!this.host.atomic) {
      this.output.emit(data, flags)
    } else if (this.busy) {
      this.output.hold(data)
    } else {
      this.output.emit(data)
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
    if (!this.isHere) return
    this.output.finish()
    this.host.link.putClose(this.number, this.term, code, clipCloseReason(reason))
    this.depart({ code, reason, cause: 'node' })
  }

  // What follows is for the node, not for applications.

  /** The session is this node's now: OPEN, or ACTIVATE after PREPARE. */
  activate(credit: number, ack: number, out: number, state: string | null, recovered: boolean): void {
    this.output.begin(credit, ack, out, state)
    this.settled = ack
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

  /** READY follows, or REFUSED when the application does not want it. */
  prepare(state: string | null): void {
    const { handlers } = this.host
    const ready = () => {
      if (this.phase === 'importing') this.host.link.put(RecordType.ready, 0, this.number, this.term)
    }
    const vetoed = (error: unknown) => {
      if (this.phase !== 'importing') return
      this.prepared = false
      this.refuse(error)
      this.end('gone')
    }
    if (handlers.prepare === undefined) {
      ready()
      return
    }
    this.prepared = true
    try {
      this.value = state === null ? undefined : JSON.parse(state)
      const result = handlers.prepare(this)
      if (isPromise(result)) result.then(ready, vetoed)
      else ready()
    } catch (error) {
      vetoed(error)
    }
  }

  /** What the session's client is in; for adapters of other protocols (PROTOCOL.md §1.11). */
  changeRooms(change: object): void {
    if (this.open) this.host.link.putJson(RecordType.rooms, this.number, this.term, change)
  }

  /** How it goes on here; for operators. */
  reportContinued(how: Continued): void {
    if (this.open) this.host.link.putJson(RecordType.continued, this.number, this.term, how)
  }

  receive(data: string | Uint8Array, seq: number, redelivered: boolean): void {
    const message = { data, seq, redelivered }
    if (this.phase === 'open' && !this.busy && this.inbox.length === 0) this.handle(message)
    else this.inbox.push(message)
  }

  addCredit(bytes: number): void {
    this.output.addCredit(bytes)
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
    if (attempt === this.attempt) this.callOff()
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
    this.wakeDrained()
    this.proceed()
  }

  linkLost(): void {
    this.depart({ code: CloseCode.abnormal, reason: 'link lost', cause: 'link-lost' })
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
    return this.output.writable && !this.host.link.congested
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
    if (!this.isHere) return
    this.settled = seq
    this.output.flushHeld()
    this.commit()
  }

  private fail(error: unknown, where: string): void {
    this.busy = false
    this.output.dropHeld()
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
      if (!this.isHere) return
      const due = this.stateChanged || this.output.holds
      this.output.flushHeld()
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

  /** What was settled is to be committed. */
  private commit(): void {
    const state = this.stateChanged ? this.stateJson : null
    this.stateChanged = false
    this.output.commit(this.settled, state)
  }

  private sendLate(data: string | Uint8Array, flags: number): boolean {
    if (this.phase !== 'finished' && this.phase !== 'moved') return false
    if (this.phase === 'moved' && this.host.now() - this.movedAt > this.host.lateOutputMs) return false
    return this.output.writeLate(data, flags)
  }

  /** What has come and was not begun may have been handled elsewhere. */
  protected markRedelivered(): void {
    this.inbox = this.inbox.map((message) => ({ ...message, redelivered: true }))
  }

  /** Its records go elsewhere from now on. */
  protected move(assignment: Assignment): void {
    this.host.letGo(this)
    this.assignment = assignment
    this.output.assignment = assignment
  }

  /** The hand-over is off. */
  protected callOff(): void {
    if (this.phase === 'quiescing') {
      if (this.closeReason === null) {
        this.phase = 'open'
        this.proceed()
      } else {
        this.resumeWanted = true
      }
    } else if (this.phase === 'finished') {
      this.handedOver = false
      this.output.restoreCredit()
      this.recovered = true
      this.start()
    }
  }

  /** Hands over: the application saves its last state, everything is flushed, FIN ends the term. */
  private finish(): void {
    this.closeReason = { code: CloseCode.serviceRestart, reason: 'migrated', cause: 'migrated' }
    const reason = this.closeReason
    let veto: unknown = null
    const hook = () => {
      try {
        const result = this.host.handlers.close?.(this, reason)
        return isPromise(result) ? result.catch(keepVeto) : result
      } catch (error) {
        return keepVeto(error)
      }
    }
    const keepVeto = (error: unknown) => {
      if (!(error instanceof EvenkeelError) || error.code !== 'VETO') throw error
      veto = error
    }
    const fin = () => {
      if (this.phase !== 'quiescing') return
      this.output.finish()
      if (this.resumeWanted) {
        this.resumeWanted = false
        this.recovered = true
        this.start()
        return
      }
      this.phase = 'finished'
      this.handedOver = veto === null
      if (veto !== null) this.refuse(veto, this.attempt)
      else this.host.link.putU32(RecordType.fin, 0, this.number, this.term, this.attempt)
      this.wakeDrained()
    }
    if (this.guard('close', hook, fin) === undefined) fin()
  }

  private finishClosing(): void {
    const reason = this.closeReason!
    const closed = () => {
      if (this.phase !== 'closing') return
      this.output.finish()
      this.host.link.put(RecordType.closed, 0, this.number, this.term)
      this.end('gone')
    }
    if (this.guard('close', () => this.host.handlers.close?.(this, reason), closed) === undefined) closed()
  }

  /** Ends without asking anyone, and tells the application unless it knows. */
  protected depart(reason: CloseReason): void {
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

  /** Says VETO, of a hand-over or of what was to come. */
  private refuse(error: unknown, attempt?: number): void {
    const message = clipCloseReason(String((error as Error)?.message ?? error))
    this.host.link.putJson(RecordType.refused, this.number, this.term, { code: 'VETO', message, attempt })
  }

  /** It is not coming, or not coming back. */
  private part(): void {
    try {
      this.host.handlers.released?.(this)
    } catch (error) {
      this.host.failed(this, error, 'released')
    }
  }

  private end(phase: 'moved' | 'gone'): void {
    const parted = this.phase === 'finished' || (this.phase === 'importing' && this.prepared)
    this.phase = phase
    if (parted) this.part()
    this.movedAt = this.host.now()
    this.inbox = []
    this.output.end()
    this.host.forget(this)
    this.wakeDrained()
  }
}

function isPromise(value: unknown): value is Promise<void> {
  return typeof value === 'object' && value !== null && typeof (value as Promise<void>).then === 'function'
}
