import type { RunBatch, RunReader, RunService, RunSink } from '../gateway/run-types.ts'
import { EvenkeelError, toProblem } from '../protocol/errors.ts'
import {
  encodeRunFailure,
  parseRunAttach,
  parseRunCredit,
  parseRunStart,
  parseStreamId,
  type RunFailure,
  RunFrame,
} from '../protocol/run-frames.ts'
import type { TraceContext } from '../protocol/trace-context.ts'
import { encodeRunList } from './run-encoding.ts'

/** The connection that carries the streams. */
export interface RunCarrier {
  /** Sends text, whose first byte says what it is. */
  sendText(frame: Buffer): void
  /** Where its connection is traced; null: nowhere. */
  trace(): TraceContext | null
  /** What the client's socket has not taken, in bytes. False: `drained` follows once it has. */
  hasRoom(): boolean
}

export interface RunStreamsOptions {
  runs: RunService
  carrier: RunCarrier
  pool: string
  /** Most streams at once. */
  streams: number
  /** An error that is ours, not the client's. */
  onError(error: unknown): void
}

const opening = Buffer.from('"events":')
const closing = Buffer.from('}')
const noEvents = Buffer.from('[]')

/** The runs that one client follows over one connection of `evenkeel.v1` (PROTOCOL.md §2.2). */
export class RunStreams {
  private readonly options: RunStreamsOptions
  private readonly streams = new Map<number, RunStream>()
  private lastId = 0
  private closed = false

  constructor(options: RunStreamsOptions) {
    this.options = options
  }

  /** Takes a frame; false: it is not about runs. Throws BAD_REQUEST for what costs the connection. */
  received(type: number, frame: string): boolean {
    if (type === RunFrame.start) this.start(frame)
    else if (type === RunFrame.attach) this.attach(frame)
    else if (type === RunFrame.detach) this.stream(parseStreamId(frame))?.close()
    else if (type === RunFrame.cancel) this.stream(parseStreamId(frame))?.cancel()
    else if (type === RunFrame.credit) {
      const [id, bytes] = parseRunCredit(frame)
      this.stream(id)?.grant(bytes)
    } else return false
    return true
  }

  /** The socket has taken what was written. */
  drained(): void {
    for (const stream of [...this.streams.values()]) stream.drained()
  }

  /** The connection is gone; durable runs are not touched. */
  close(): void {
    this.closed = true
    for (const stream of [...this.streams.values()]) stream.close()
  }

  private start(frame: string): void {
    const {
      id,
      pool = this.options.pool,
      name,
      body,
      key = null,
      mode = 'durable',
      credit,
    } = parseRunStart(frame)
    const context = this.options.carrier.trace()
    const trace = context === null ? null : { ...context, isLink: true }
    const request = { pool, name, requestJson: JSON.stringify(body), idempotencyKey: key, mode, trace }
    this.open(id, credit, null, async () => (await this.options.runs.start(request)).run)
  }

  private attach(frame: string): void {
    const { id, run, after, credit } = parseRunAttach(frame)
    this.open(id, credit, after, async () => run)
  }

  private open(id: number, credit: number, after: string | null, find: () => Promise<string>): void {
    if (id <= this.lastId) throw new EvenkeelError('BAD_REQUEST', `stream ${id}: ids must grow`)
    this.lastId = id
    const { carrier, runs, onError } = this.options
    if (this.streams.size >= this.options.streams) {
      const message = `a connection has at most ${this.options.streams} streams; detach some`
      carrier.sendText(Buffer.from(encodeRunFailure({ id, code: 'TOO_MANY_REQUESTS', message })))
      return
    }
    const stream = new RunStream({ id, credit, carrier, runs, onError, ended: () => this.streams.delete(id) })
    this.streams.set(id, stream)
    if (this.closed) stream.close()
    else void stream.open(find, after)
  }

  /** One that has ended already may still be spoken to. */
  private stream(id: number): RunStream | undefined {
    if (id > this.lastId) throw new EvenkeelError('BAD_REQUEST', `there is no stream ${id}`)
    return this.streams.get(id)
  }
}

interface RunStreamOptions {
  readonly id: number
  /** Bytes. */
  readonly credit: number
  readonly carrier: RunCarrier
  readonly runs: RunService
  onError(error: unknown): void
  ended(): void
}

/** One reader of one run. */
class RunStream implements RunSink {
  private readonly options: RunStreamOptions
  private readonly head: Buffer
  private credit: number
  private run: string | null = null
  private reader: RunReader | null = null
  private cancelled = false
  private blocked = false
  private over = false

  constructor(options: RunStreamOptions) {
    this.options = options
    this.credit = options.credit
    this.head = Buffer.concat([Buffer.from(`e{"id":${options.id},`), opening])
  }

  async open(find: () => Promise<string>, after: string | null): Promise<void> {
    const { runs } = this.options
    try {
      this.run = await find()
      if (this.cancelled) await runs.cancel(this.run)
      if (this.over) return
      const opened = await runs.openReader(this.run, after, this)
      if (opened.verdict === 'over') this.fail({ code: 'OVER', message: 'nothing follows this offset' })
      else if (opened.verdict === 'gap')
        this.fail({ code: 'GAP', message: 'what followed this offset is lost', oldest: opened.oldest })
      else if (this.over) opened.reader.close()
      else this.reader = opened.reader
    } catch (error) {
      this.refuse(error)
    }
  }

  write(batch: RunBatch): boolean {
    if (!this.over) this.send(encodeRunList(batch))
    this.blocked = this.credit <= 0 || !this.options.carrier.hasRoom()
    return !this.blocked
  }

  heartbeat(): void {
    if (!this.over) this.send(noEvents)
  }

  close(reason?: 'ended' | 'away'): void {
    if (reason === 'away')
      this.fail({ code: 'AWAY', message: 'the run cannot be read here now; attach again' })
    else this.end()
  }

  cancel(): void {
    if (this.cancelled) return
    this.cancelled = true
    if (this.run === null) return
    // What comes of it is said by the run's terminal event.
    this.options.runs.cancel(this.run).catch((error) => this.refuse(error))
  }

  grant(bytes: number): void {
    this.credit += bytes
    this.drained()
  }

  drained(): void {
    if (!this.blocked || this.credit <= 0 || !this.options.carrier.hasRoom()) return
    this.blocked = false
    this.reader?.drained()
  }

  private send(events: Buffer): void {
    const frame = Buffer.concat([this.head, events, closing])
    this.credit -= frame.length
    this.options.carrier.sendText(frame)
  }

  private refuse(error: unknown): void {
    if (!(error instanceof EvenkeelError)) this.options.onError(error)
    const { retryAfterMs } = error as { retryAfterMs?: number }
    const { code, detail: message } = toProblem(error)
    this.fail({ code, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) })
  }

  private fail(failure: Omit<RunFailure, 'id'>): void {
    if (this.over) return
    const { id, carrier } = this.options
    carrier.sendText(Buffer.from(encodeRunFailure({ id, ...failure })))
    this.end()
  }

  private end(): void {
    if (this.over) return
    this.over = true
    this.options.ended()
    this.reader?.close()
  }
}
