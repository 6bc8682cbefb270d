import type { Link } from '../link/link.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { defaultLimits } from '../protocol/limits.ts'
import {
  RecordFlag,
  RecordType,
  type Refusal,
  readU32,
  type SessionMeta,
  type Welcome,
} from '../protocol/link-records.ts'
import { NodeSession, type SessionHost } from './session.ts'
import type { SessionHandlers } from './types.ts'

export interface SessionTableOptions {
  link: Link
  welcome: Welcome
  handlers: SessionHandlers
  atomic: boolean
  now: () => number
  /** A session came or went. */
  sizeChanged(): void
  /** Why no further session can come, or null. */
  refusal(): Refusal | null
  failed(session: NodeSession, error: unknown, where: string): void
  /** The session is in as many channels as it may be. */
  notJoined(session: NodeSession, channel: string): void
}

/** The sessions of one link: gives each record to its session and refuses what an earlier term sent. */
export class SessionTable implements SessionHost {
  readonly link: Link
  readonly handlers: SessionHandlers
  readonly atomic: boolean
  readonly messageBytes: number
  readonly stateBytes: number
  readonly queueBytes: number
  readonly lateOutputMs = defaultLimits.lateOutputMs
  /** Records that were dropped because their session is not here, or no longer in that term. */
  staleRecords = 0
  private readonly options: SessionTableOptions
  private readonly sessions = new Map<number, NodeSession>()
  private committing: NodeSession[] = []
  private readonly draining = new Set<NodeSession>()

  constructor(options: SessionTableOptions) {
    this.options = options
    this.link = options.link
    this.handlers = options.handlers
    this.atomic = options.atomic
    this.messageBytes = options.welcome.limits.messageBytes
    this.stateBytes = options.welcome.limits.stateBytes
    this.queueBytes = options.welcome.limits.clientBufferBytes
  }

  get size(): number {
    return this.sessions.size
  }

  now(): number {
    return this.options.now()
  }

  record(
    type: number,
    flags: number,
    number: number,
    term: number,
    batch: Buffer,
    start: number,
    end: number,
  ): void {
    if (type === RecordType.open || type === RecordType.prepare) {
      this.arrive(type, flags, number, term, batch, start, end)
      return
    }
    const session = this.sessions.get(number)
    if (session === undefined || session.term !== term) {
      this.staleRecords++
      return
    }
    switch (type) {
      case RecordType.message: {
        const data =
          (flags & RecordFlag.text) !== 0
            ? batch.toString('utf8', start + 4, end)
            : // A copy: the application may keep it, and the batch it is part of is large.
              Buffer.from(batch.subarray(start + 4, end))
        session.receive(data, readU32(batch, start), (flags & RecordFlag.redelivered) !== 0)
        break
      }
      case RecordType.credit:
        session.addCredit(readU32(batch, start))
        break
      case RecordType.activate:
        activate(session, flags, batch, start, start + 12, end, true)
        break
      case RecordType.quiesce:
        session.quiesce(readU32(batch, start))
        break
      case RecordType.resume:
        session.resume(readU32(batch, start))
        break
      case RecordType.release:
        session.release()
        break
      case RecordType.denied:
        this.options.notJoined(session, batch.toString('utf8', start, end))
        break
      case RecordType.close:
        session.clientClosed(batch[start]! | (batch[start + 1]! << 8), batch.toString('utf8', start + 2, end))
        break
    }
  }

  /** OPEN or PREPARE. */
  private arrive(
    type: number,
    flags: number,
    number: number,
    term: number,
    batch: Buffer,
    start: number,
    end: number,
  ): void {
    const known = this.sessions.get(number)
    const refusal: Refusal | null =
      known !== undefined && known.term >= term
        ? { code: 'STALE', message: `term ${term} is not higher than ${known.term}` }
        : this.options.refusal()
    if (refusal !== null) {
      this.link.putJson(RecordType.refused, number, term, refusal)
      return
    }
    known?.release()
    const isOpen = type === RecordType.open
    const metaAt = start + (isOpen ? 16 : 4)
    const metaEnd = metaAt + readU32(batch, metaAt - 4)
    const session = new NodeSession(this, number, term, parseMeta(batch, metaAt, metaEnd, end))
    this.sessions.set(number, session)
    this.options.sizeChanged()
    if (isOpen) {
      activate(session, flags, batch, start, metaEnd, end, (flags & RecordFlag.recovered) !== 0)
    } else {
      this.link.put(RecordType.ready, 0, number, term)
    }
  }

  commitSoon(session: NodeSession): void {
    this.committing.push(session)
    this.link.requestFlush()
  }

  writeCommits(): void {
    if (this.committing.length === 0) return
    const committing = this.committing
    this.committing = []
    for (const session of committing) session.writeCommit()
  }

  waitForDrain(session: NodeSession): void {
    this.draining.add(session)
  }

  wakeAll(): void {
    for (const session of this.draining) if (session.wakeDrained()) this.draining.delete(session)
  }

  forget(session: NodeSession): void {
    if (this.sessions.get(session.number) === session) {
      this.sessions.delete(session.number)
      this.options.sizeChanged()
    }
    this.draining.delete(session)
  }

  failed(session: NodeSession, error: unknown, where: string): void {
    this.options.failed(session, error, where)
  }

  linkLost(): void {
    for (const session of [...this.sessions.values()]) session.linkLost()
  }
}

/** OPEN and ACTIVATE begin with the same three numbers, at `start`, and end with the state, from `stateAt` on. */
function activate(
  session: NodeSession,
  flags: number,
  batch: Buffer,
  start: number,
  stateAt: number,
  end: number,
  recovered: boolean,
): void {
  const [credit, ack, out] = [readU32(batch, start), readU32(batch, start + 4), readU32(batch, start + 8)]
  const state = (flags & RecordFlag.state) !== 0 ? batch.toString('utf8', stateAt, end) : null
  session.activate(credit, ack, out, state, recovered)
}

/** Throws RECORD_INVALID. */
function parseMeta(batch: Buffer, start: number, metaEnd: number, end: number): SessionMeta {
  try {
    if (metaEnd <= end) return JSON.parse(batch.toString('utf8', start, metaEnd)) as SessionMeta
  } catch {
    // Said below.
  }
  throw new EvenkeelError('RECORD_INVALID', 'the meta of OPEN or PREPARE is no JSON')
}
