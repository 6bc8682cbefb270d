import { KeptOutputs } from '../core/session/kept-outputs.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { RecordFlag, RecordType, type TakenInfo, writeU32 } from '../protocol/link-records.ts'
import type { Assignment } from './session-host.ts'

type Data = string | Uint8Array

/** An output that waits for credit, or a commit that must not overtake it. */
type QueuedOutput = { data: Data; flags: number } | { ack: number; state: string | null }

/** What a session writes, in order: its outputs as far as the credit goes, and the commits between them. */
export class SessionOutput {
  assignment: Assignment
  private readonly keeping: boolean
  /** The queue is full: the client reads too slowly. */
  private readonly overflowed: () => void
  private window = 0
  private credit = 0
  private seq = 0
  private outbox: QueuedOutput[] = []
  private outboxBytes = 0
  /** Outputs of the message being handled, with `delivery: 'atomic'`. */
  private held: Data[] = []
  private heldBytes = 0

  /** What the next COMMIT says; written at the end of the turn, so that one covers all messages of the turn. */
  private commitAck = 0
  private commitState: string | null = null
  private commitDue = false
  /** What the last COMMIT said. */
  private committedAck = 0
  private committedState: string | null = null

  /** Of a resumable session: what its client has not acknowledged. */
  private kept: KeptOutputs<string | Uint8Array> | null = null

  constructor(assignment: Assignment, keeping: boolean, overflowed: () => void) {
    this.assignment = assignment
    this.keeping = keeping
    this.overflowed = overflowed
  }

  /** Goes on behind the commit of message `ack` and behind output `out`. */
  begin(credit: number, ack: number, out: number, state: string | null): void {
    this.window = credit
    this.credit = credit
    this.seq = out
    this.commitAck = ack
    this.committedAck = ack
    this.committedState = state
    if (this.keeping) this.kept = new KeptOutputs(out)
  }

  /** More may be written at once. */
  get writable(): boolean {
    return this.credit > 0 && this.outbox.length === 0
  }

  get holds(): boolean {
    return this.held.length > 0
  }

  emit(data: Data, flags = 0): void {
    if (this.writable) {
      this.putOutput(data, flags)
      return
    }
    if ((flags & RecordFlag.volatile) !== 0 && this.kept === null) return
    this.outbox.push({ data, flags })
    this.outboxBytes += data.length
    if (this.outboxBytes > this.assignment.host.queueBytes) {
      this.outbox = []
      this.outboxBytes = 0
      this.overflowed()
    }
  }

  /** Keeps an output back until the commit of the message that is being handled. Throws TOO_LARGE. */
  hold(data: Data): void {
    this.held.push(data)
    this.heldBytes += data.length
    const { queueBytes } = this.assignment.host
    if (this.heldBytes > queueBytes) {
      throw new EvenkeelError(
        'TOO_LARGE',
        `the outputs of one atomic commit have at most ${queueBytes} bytes`,
      )
    }
  }

  dropHeld(): void {
    this.held = []
    this.heldBytes = 0
  }

  flushHeld(): void {
    if (this.held.length === 0) return
    const { held } = this
    this.dropHeld()
    // One commit leaves whole: either all of it waits for credit or none.
    if (this.writable) for (const data of held) this.putOutput(data)
    else for (const data of held) this.emit(data)
  }

  /** Commits with the flush of this turn, or behind the outputs that wait for credit. */
  commit(ack: number, state: string | null): void {
    if (this.outbox.length > 0) {
      this.outbox.push({ ack, state })
      return
    }
    this.commitAck = ack
    if (state !== null) this.commitState = state
    if (!this.commitDue) {
      this.commitDue = true
      this.assignment.host.commitSoon(this)
    }
  }

  /** Writes the COMMIT that is due. */
  writeCommit(): void {
    if (!this.commitDue) return
    this.commitDue = false
    const state = this.commitState
    this.commitState = null
    this.putCommit(this.commitAck, state)
  }

  /** Writes everything, whatever the credit is. */
  finish(): void {
    this.flushHeld()
    this.flushOutbox(true)
    this.writeCommit()
  }

  addCredit(bytes: number): void {
    this.credit += bytes
    this.flushOutbox(false)
  }

  /** The client has all outputs up to `out`. */
  acknowledged(out: number): void {
    if (this.kept !== null) this.addCredit(this.kept.prune(out))
  }

  /** An output of an earlier assignment, which the client has not acknowledged. */
  appendTail(seq: number, data: Data, bytes: number): void {
    if (this.kept?.appendTail(seq, data, bytes)) this.credit -= bytes
  }

  /** Every output behind this one can be written again. */
  get keptFrom(): number {
    return this.kept?.keptFrom ?? this.seq
  }

  /** The last message that a COMMIT has covered. */
  get committed(): number {
    return this.committedAck
  }

  /** Whether every output behind `out` can be written again. */
  reaches(out: number): boolean {
    return this.kept?.reaches(out) ?? false
  }

  /** Writes TAKEN, every output behind `out` again, and what has waited for credit. */
  writeTaken(window: number, out: number, info: TakenInfo): void {
    const kept = this.kept!
    kept.prune(out)
    this.window = window
    this.restoreCredit()
    const { host, number, term } = this.assignment
    const state = this.committedState
    const flags = state === null ? 0 : RecordFlag.state
    host.link.putPayload(RecordType.taken, flags, number, term, this.committedAck, takenBody(info, state))
    // Not HELD: TAKEN has said their commit.
    for (const { seq, data } of kept.behind(out)) this.write(0, seq, data)
    this.flushOutbox(false)
  }

  /** LATE outputs have used up credit that nobody gives back. */
  restoreCredit(): void {
    if (this.kept !== null) this.credit = this.window - this.kept.bytes
  }

  /** Writes an output behind the end of the term. Returns false when there is no credit left for it. */
  writeLate(data: Data, flags = 0): boolean {
    // Nobody grants credit for it any more, so what was left at the hand-over is all there is.
    if (this.assignment.host.link.closed || this.credit <= 0) return false
    this.credit -= this.write(flags | RecordFlag.late, 0, data)
    return true
  }

  /** Drops what was not written, and what was kept. */
  end(): void {
    this.outbox = []
    this.outboxBytes = 0
    this.commitDue = false
    this.kept = null
  }

  /** Writes what waits while there is credit; all of it when `whatever`. */
  private flushOutbox(whatever: boolean): void {
    if (this.outbox.length === 0) return
    this.writeCommit()
    let sent = 0
    // The gateway grants nothing for HELD outputs before their commit, so an atomic commit that was begun is finished.
    let begun = false
    for (const entry of this.outbox) {
      if ('data' in entry) {
        if (this.credit <= 0 && !whatever && !begun) break
        begun = this.assignment.host.atomic
        this.outboxBytes -= entry.data.length
        this.putOutput(entry.data, entry.flags)
      } else {
        this.putCommit(entry.ack, entry.state)
        begun = false
      }
      sent++
    }
    this.outbox.splice(0, sent)
  }

  private putOutput(data: Data, flags = 0): void {
    const seq = ++this.seq
    const bytes = this.write(flags | (this.assignment.host.atomic ? RecordFlag.held : 0), seq, data)
    this.credit -= bytes
    // A copy: the application may use its buffer for something else.
    this.kept?.append(seq, typeof data === 'string' ? data : Buffer.from(data), bytes)
  }

  /** Returns the size of the payload. */
  private write(flags: number, seq: number, data: Data): number {
    const { host, number, term } = this.assignment
    if (typeof data === 'string') {
      return host.link.putText(RecordType.output, flags | RecordFlag.text, number, term, seq, data)
    }
    host.link.putPayload(RecordType.output, flags, number, term, seq, data)
    return data.length
  }

  private putCommit(ack: number, state: string | null): void {
    const { host, number, term } = this.assignment
    if (state === null) host.link.putU32(RecordType.commit, 0, number, term, ack)
    else host.link.putText(RecordType.commit, RecordFlag.state, number, term, ack, state)
    this.committedAck = ack
    if (state !== null) this.committedState = state
  }
}

/** What follows the first number of TAKEN. */
function takenBody(info: TakenInfo, state: string | null): Buffer {
  const json = Buffer.from(JSON.stringify(info))
  const size = Buffer.alloc(4)
  writeU32(size, 0, json.length)
  return Buffer.concat([size, json, Buffer.from(state ?? '')])
}
