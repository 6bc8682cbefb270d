import type { Link } from '../link/link.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { defaultLimits } from '../protocol/limits.ts'
import {
  parseDrop,
  parseKeep,
  parseSeek,
  RecordFlag,
  RecordType,
  type Refusal,
  readU32,
  type SessionMeta,
  type Welcome,
} from '../protocol/link-records.ts'
import { ResumableSession } from './resumable-session.ts'
import type { ResumableSessions } from './resumable-sessions.ts'
import { NodeSession } from './session.ts'
import type { SessionHost } from './session-host.ts'
import type { SessionOutput } from './session-output.ts'
import type { SessionHandlers } from './types.ts'

export interface SessionTableOptions {
  link: Link
  welcome: Welcome
  handlers: SessionHandlers
  atomic: boolean
  /** Of all links of the node. */
  resumable: ResumableSessions
  now: () => number
  /** A session came or went. */
  sizeChanged(): void
  /** Why no further session can come, or null. */
  refusal(): Refusal | null
  failed(session: NodeSession, error: unknown, where: string): void
  /** TAKE gave this link a session, whatever `refusal` says. */
  taken(): void
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
  readonly resumeMs: number
  /** Records that were dropped because their session is not here, or no longer in that term. */
  staleRecords = 0
  private readonly options: SessionTableOptions
  private readonly sessions = new Map<number, NodeSession>()
  private committing: SessionOutput[] = []
  private readonly draining = new Set<NodeSession>()

  constructor(options: SessionTableOptions) {
    this.options = options
    this.link = options.link
    this.handlers = options.handlers
    this.atomic = options.atomic
    this.messageBytes = options.welcome.limits.messageBytes
    this.stateBytes = options.welcome.limits.stateBytes
    this.queueBytes = options.welcome.limits.clientBufferBytes
    this.resumeMs = options.welcome.resumeMs
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
    if (number === 0) {
      this.linkRecord(type, batch.subarray(start, end))
      return
    }
    if (type === RecordType.open || type === RecordType.prepare) {
      this.arrive(type, flags, number, term, batch, start, end)
      return
    }
    if (type === RecordType.take) {
      this.take(number, term, batch, start, end)
      return
    }
    const session = this.sessions.get(number)
    if (session?.term === term) {
      this.sessionRecord(session, type, flags, batch, start, end)
      return
    }
    this.staleRecords++
    if (type === RecordType.keep) this.link.put(RecordType.lost, 0, number, term)
  }

  private linkRecord(type: number, body: Buffer): void {
    const { resumable } = this.options
    if (type === RecordType.seek) {
      this.link.putJson(RecordType.found, 0, 0, resumable.seek(parseSeek(body)))
    } else if (type === RecordType.drop) {
      resumable.drop(parseDrop(body))
    }
  }

  private sessionRecord(
    session: NodeSession,
    type: number,
    flags: number,
    batch: Buffer,
    start: number,
    end: number,
  ): void {
    switch (type) {
      case RecordType.message:
        session.receive(
          payload(flags, batch, start + 4, end),
          readU32(batch, start),
          (flags & RecordFlag.redelivered) !== 0,
        )
        break
      case RecordType.credit:
        session.addCredit(readU32(batch, start))
        break
      case RecordType.activate:
        this.activate(session, flags, batch, start, start + 12, end, true)
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
        if (session instanceof ResumableSession) session.denied(batch.toString('utf8', start, end))
        break
      case RecordType.close:
        session.clientClosed(batch[start]! | (batch[start + 1]! << 8), batch.toString('utf8', start + 2, end))
        break
      default:
        if (session instanceof ResumableSession) keepingRecord(session, type, flags, batch, start, end)
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
    const isOpen = type === RecordType.open
    const metaAt = start + (isOpen ? 16 : 4)
    const metaEnd = metaAt + readU32(batch, metaAt - 4)
    const meta = parseMeta(batch, metaAt, metaEnd, end)
    const isResumable = (flags & RecordFlag.resumable) !== 0
    const { resumable, refusal, sizeChanged } = this.options
    const known = this.sessions.get(number)
    const highest = Math.max(known?.term ?? 0, isResumable ? resumable.highestTerm(meta.id) : 0)
    const refused: Refusal | null =
      highest >= term ? { code: 'STALE', message: `term ${term} is not higher than ${highest}` } : refusal()
    if (refused !== null) {
      this.refuse(number, term, refused)
      return
    }
    known?.release()
    const assignment = { host: this, number, term }
    const session = isResumable ? new ResumableSession(assignment, meta) : new NodeSession(assignment, meta)
    session.stateless = isOpen && (flags & RecordFlag.stateless) !== 0
    this.sessions.set(number, session)
    if (session instanceof ResumableSession) resumable.add(session)
    sizeChanged()
    if (isOpen) {
      this.activate(session, flags, batch, start, metaEnd, end, (flags & RecordFlag.recovered) !== 0)
    } else {
      session.prepare((flags & RecordFlag.state) !== 0 ? batch.toString('utf8', metaEnd, end) : null)
    }
  }

  /** OPEN and ACTIVATE begin with the same three numbers, at `start`, and end with the state, from `stateAt` on. */
  private activate(
    session: NodeSession,
    flags: number,
    batch: Buffer,
    start: number,
    stateAt: number,
    end: number,
    recovered: boolean,
  ): void {
    if (session instanceof ResumableSession) this.options.resumable.endOlder(session)
    const [credit, ack, out] = [readU32(batch, start), readU32(batch, start + 4), readU32(batch, start + 8)]
    const state = (flags & RecordFlag.state) !== 0 ? batch.toString('utf8', stateAt, end) : null
    session.activate(credit, ack, out, state, recovered)
  }

  private take(number: number, term: number, batch: Buffer, start: number, end: number): void {
    const { resumable, sizeChanged, taken } = this.options
    const [window, out] = [readU32(batch, start), readU32(batch, start + 4)]
    const id = batch.toString('utf8', start + 8, end)
    const session = resumable.forTaking(id, term, out)
    if ('code' in session) {
      this.refuse(number, term, session)
      return
    }
    this.sessions.set(number, session)
    taken()
    session.take({ host: this, number, term }, window, out)
    resumable.endOlder(session)
    sizeChanged()
  }

  private refuse(number: number, term: number, refusal: Refusal): void {
    this.link.putJson(RecordType.refused, number, term, refusal)
  }

  commitSoon(output: SessionOutput): void {
    this.committing.push(output)
    this.link.requestFlush()
  }

  writeCommits(): void {
    if (this.committing.length === 0) return
    const committing = this.committing
    this.committing = []
    for (const output of committing) output.writeCommit()
  }

  waitForDrain(session: NodeSession): void {
    this.draining.add(session)
  }

  wakeAll(): void {
    for (const session of this.draining) if (session.wakeDrained()) this.draining.delete(session)
  }

  letGo(session: NodeSession): void {
    if (this.sessions.get(session.number) === session) {
      this.sessions.delete(session.number)
      this.options.sizeChanged()
    }
    this.draining.delete(session)
  }

  forget(session: NodeSession): void {
    this.letGo(session)
    if (session instanceof ResumableSession) this.options.resumable.remove(session)
  }

  failed(session: NodeSession, error: unknown, where: string): void {
    this.options.failed(session, error, where)
  }

  /** `instance`: the gateway process whose sessions outlive the link; null when none do. */
  linkLost(instance: string | null): void {
    for (const session of [...this.sessions.values()]) {
      const outlives =
        instance !== null &&
        session instanceof ResumableSession &&
        this.options.resumable.keep(session, instance)
      if (!outlives) session.linkLost()
    }
  }
}

/** What only resumable sessions get. */
function keepingRecord(
  session: ResumableSession,
  type: number,
  flags: number,
  batch: Buffer,
  start: number,
  end: number,
): void {
  if (type === RecordType.keep) session.keep(parseKeep(batch.subarray(start, end)))
  else if (type === RecordType.acked) session.acknowledged(readU32(batch, start))
  else if (type === RecordType.key)
    session.rememberKey(readU32(batch, start), batch.toString('utf8', start + 4, end))
  else if (type === RecordType.tail) {
    session.appendTail(payload(flags, batch, start + 4, end), readU32(batch, start), end - start - 4)
  }
}

function payload(flags: number, batch: Buffer, start: number, end: number): string | Buffer {
  if ((flags & RecordFlag.text) !== 0) return batch.toString('utf8', start, end)
  // A copy: it may be kept, and the batch it is part of is large.
  return Buffer.from(batch.subarray(start, end))
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
