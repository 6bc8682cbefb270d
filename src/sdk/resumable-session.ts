import { KeyedMessages } from '../core/session/keyed-messages.ts'
import { isSameSecret } from '../link/token.ts'
import { CloseCode } from '../protocol/close-codes.ts'
import { type Keep, RecordType, type SessionMeta } from '../protocol/link-records.ts'
import { JoinedChannels } from './joined-channels.ts'
import { NodeSession } from './session.ts'
import type { Assignment, SessionHost } from './session-host.ts'

/** A session that outlives its link, and goes on over another when its client comes back (PROTOCOL.md §1.10). */
export class ResumableSession extends NodeSession {
  /** Hashes of the tokens under which it is given away. */
  private tokens: readonly string[] = []
  private readonly channels = new JoinedChannels()
  /** The last message that came. */
  private received = 0
  private keyed: KeyedMessages | null = null

  constructor(assignment: Assignment, meta: SessionMeta) {
    super(assignment, meta, true)
  }

  /** Prepared, not opened. */
  get importing(): boolean {
    return this.phase === 'importing'
  }

  /** Opened, and its client has not left. */
  get live(): boolean {
    const served = this.phase === 'open' || this.phase === 'quiescing' || this.phase === 'finished'
    return served && this.clientGone === null
  }

  override join(channel: string): void {
    super.join(channel)
    if (this.open) this.channels.join(channel)
  }

  override leave(channel: string): void {
    super.leave(channel)
    if (this.open) this.channels.leave(channel)
  }

  override receive(data: string | Uint8Array, seq: number, redelivered: boolean): void {
    // A client that came back sends again what was not committed.
    if (seq <= this.received) return
    this.received = seq
    super.receive(data, seq, redelivered)
  }

  /** The message with this number, which is about to come, has an idempotency key. */
  rememberKey(seq: number, key: string): void {
    this.keyed ??= new KeyedMessages()
    this.keyed.remember(key, seq)
  }

  /** What its client may still get is bounded by what it has not acknowledged. */
  override addCredit(): void {}

  keep({ version, tokens, out, channels, changed = [] }: Keep): void {
    this.tokens = tokens
    if (channels !== null) this.channels.inherit(channels)
    for (const [channel, joined] of changed) {
      if (joined) this.channels.join(channel)
      else this.channels.leave(channel)
    }
    this.acknowledged(out)
    this.host.link.putU32(RecordType.kept, 0, this.number, this.term, version)
  }

  /** An output of an earlier assignment, which the client has not acknowledged. */
  appendTail(data: string | Uint8Array, seq: number, bytes: number): void {
    this.output.appendTail(seq, data, bytes)
  }

  /** The client has all outputs up to `out`. */
  acknowledged(out: number): void {
    this.output.acknowledged(out)
    this.wakeDrained()
  }

  /** It is in as many channels as it may be. */
  denied(channel: string): void {
    this.channels.leave(channel)
  }

  /** Returns whether it is given to who shows the token with this hash. */
  hasToken(hash: string): boolean {
    // No short cut: how long it takes must not say which one it was.
    return this.tokens.map((known) => isSameSecret(hash, known)).includes(true)
  }

  /** From now on it is given away under these tokens alone. */
  replaceTokens(hashes: readonly string[]): void {
    this.tokens = hashes
  }

  /** Tells its gateway that another one has it now. */
  sayLost(): void {
    this.output.writeCommit()
    this.host.link.put(RecordType.lost, 0, this.number, this.term)
  }

  /** Goes on without a link; a hand-over is called off, unless the target may have the session. */
  detach(host: SessionHost): void {
    this.move({ host, number: this.number, term: this.term })
    // Behind FIN the session may be served there already: handled here too, messages would be handled twice, and nobody would know.
    // Who takes it from here has asked the target first.
    if (!this.handedOver) this.callOff()
    this.wakeDrained()
  }

  /** Every output behind this one is here. */
  get keptFrom(): number {
    return this.output.keptFrom
  }

  /** Whether every output behind `out` is here. */
  reaches(out: number): boolean {
    return this.output.reaches(out)
  }

  /** Goes on over another link, for a client that has all outputs up to `out`. `window`: what it need not have acknowledged. */
  take(assignment: Assignment, window: number, out: number): void {
    // Committed since the search for it: TAKEN says so, for nobody has asked for it to be written.
    this.output.writeCommit()
    this.move(assignment)
    const received = Math.max(this.received, this.output.committed)
    // A key whose message has not come by the former gateway; the next one may use its number for another one.
    this.keyed?.forget((seq) => seq > received)
    this.output.writeTaken(window, out, {
      meta: this.meta,
      channels: this.channels.list(),
      received,
      keys: this.keyed?.entries() ?? [],
    })
    if (this.handedOver) {
      this.markRedelivered()
      this.callOff()
    }
    if (!this.wakeDrained()) this.host.waitForDrain(this)
  }

  override clientClosed(code: number, reason: string): void {
    // What was handed over has been closed.
    if (this.handedOver) this.release()
    else super.clientClosed(code, reason)
  }

  /** Ends: the session goes on elsewhere, in a higher term. */
  supersede(): void {
    this.sayLost()
    this.depart({ code: CloseCode.abnormal, reason: 'the session goes on elsewhere', cause: 'link-lost' })
  }
}
