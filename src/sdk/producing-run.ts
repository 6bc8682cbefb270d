import { encodeDelta, isKind, isPart, parseEntry, runKindRule } from '../core/run/entry.ts'
import type { Link } from '../link/link.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { defaultLimits } from '../protocol/limits.ts'
import { RecordType } from '../protocol/link-records.ts'
import type { TraceContext } from '../protocol/trace-context.ts'
import type { RunChunk, RunDelta, RunHandler } from './run-types.ts'
import type { Json } from './types.ts'

/** Where a run's records go: a link, and the run's number there. */
export interface RunLink {
  readonly link: Link
  readonly number: number
  /** Of the link's gateway. */
  readonly gateway: string
}

export interface ProducingRunOptions {
  run: string
  name: string
  epoch: number
  trace: TraceContext | null
  request: Json
  emitted: readonly Required<RunDelta>[]
  handler: RunHandler
  /** Its records are to be written at the end of the turn. */
  dirty(run: ProducingRun): void
  /** The handler has ended: its place is free. */
  handlerEnded(run: ProducingRun): void
  /** All is logged, or nothing is wanted any more. */
  ended(run: ProducingRun): void
  failed(run: ProducingRun, error: unknown): void
}

interface Kept {
  readonly seq: number
  readonly json: string
}

/** In UTF-16 units: as JSON at most six bytes each. */
const textUnitsMost = Math.floor(defaultLimits.runEventBytes / 6) - 64
const appendBytesMost = 32 * 1024
const usageBytesMost = 16 * 1024
const failMessageMost = 500

/** One attempt to make a run: runs the handler, and keeps what it yields until the log has it, whatever becomes of links. */
export class ProducingRun {
  readonly run: string
  readonly name: string
  readonly epoch: number
  /** null: its gateway is gone. */
  at: RunLink | null
  /** The gateway there has said how far the log is. */
  attached = true
  detachedSince = 0
  producing = true
  over = false
  private readonly options: ProducingRunOptions
  private readonly controller = new AbortController()
  private iterator: AsyncIterator<RunChunk, unknown> | null = null
  private kept: Kept[] = []
  private keptBytes = 0
  private seq = 0
  /** The last event that was logged, as far as was said. */
  private logged = 0
  /** What was sent over the present link. */
  private sent = 0
  private end: { seq: number; json: string } | null = null
  private endSent = false
  private room: (() => void) | null = null

  constructor(options: ProducingRunOptions, at: RunLink) {
    this.options = options
    this.run = options.run
    this.name = options.name
    this.epoch = options.epoch
    this.at = at
  }

  /** Calls the handler until it ends. Never rejects. */
  async produce(): Promise<void> {
    try {
      const iterator = this.call()
      this.iterator = iterator
      for (;;) {
        const { value, done } = await iterator.next()
        if (this.over) return
        if (done === true) {
          this.finish(endJson(value))
          return
        }
        this.emit(value)
        if (this.keptBytes > defaultLimits.runUnackedBytes)
          await new Promise<void>((resolve) => (this.room = resolve))
        if (this.over) return
      }
    } catch (error) {
      if (this.over) return
      this.options.failed(this, error)
      const message = String((error as Error)?.message ?? error).slice(0, failMessageMost)
      this.finish(JSON.stringify({ type: 'fail', message }))
    } finally {
      this.producing = false
      this.options.handlerEnded(this)
    }
  }

  /** Writes what is due. Called at the end of a turn. */
  write(): void {
    if (this.at === null || !this.attached || this.over) return
    const { link, number } = this.at
    for (let from = this.firstUnsent(); from < this.kept.length; ) {
      const first = this.kept[from]!.seq
      const parts: string[] = []
      let bytes = 0
      while (
        from < this.kept.length &&
        (parts.length === 0 || bytes + this.kept[from]!.json.length <= appendBytesMost)
      ) {
        const { json } = this.kept[from++]!
        parts.push(json)
        bytes += json.length + 1
      }
      this.sent = first + parts.length - 1
      link.putText(RecordType.append, 0, number, this.epoch, first, `[${parts.join(',')}]`)
    }
    if (this.end === null || this.endSent) return
    this.endSent = true
    link.putText(RecordType.end, 0, number, this.epoch, this.end.seq, this.end.json)
  }

  /** LOGGED: the log has everything up to `seq`. */
  acknowledged(seq: number): void {
    if (!this.attached) {
      if (seq < this.logged) {
        // The log has lost what it had, and so have we.
        this.at?.link.put(RecordType.decline, 0, this.at.number, this.epoch)
        this.stop()
        return
      }
      this.attached = true
      this.sent = seq
      this.endSent = false
    }
    this.logged = Math.max(this.logged, seq)
    let gone = 0
    while (gone < this.kept.length && this.kept[gone]!.seq <= seq)
      this.keptBytes -= this.kept[gone++]!.json.length
    if (gone > 0) this.kept.splice(0, gone)
    if (this.end !== null && seq >= this.end.seq) {
      this.stop()
      return
    }
    if (this.keptBytes <= defaultLimits.runUnackedBytes / 2) this.wake()
    if (this.sent < this.seq || (this.end !== null && !this.endSent)) this.options.dirty(this)
  }

  /** The gateway is gone; everything that is not logged waits for another one. */
  detach(nowMs: number): void {
    this.at = null
    this.attached = false
    this.detachedSince = nowMs
  }

  /** Asks another gateway to take the run; LOGGED or STOP follows. */
  attach(at: RunLink): void {
    this.at = at
    this.attached = false
    at.link.putJson(RecordType.attach, at.number, this.epoch, { run: this.run, name: this.name })
  }

  /** Nothing counts any more. */
  stop(): void {
    if (this.over) return
    this.over = true
    this.kept = []
    this.wake()
    if (this.producing) {
      this.controller.abort()
      // A handler that waits for something else is not waited for.
      this.iterator?.return?.()?.then(undefined, () => {})
    }
    this.options.ended(this)
  }

  private call(): AsyncIterator<RunChunk, unknown> {
    const { emitted, handler, request, trace } = this.options
    const texts = emitted.map(({ kind, data }) => (kind === 'text' && typeof data === 'string' ? data : ''))
    return handler(request, {
      runId: this.run,
      epoch: this.epoch,
      signal: this.controller.signal,
      emitted: { text: texts.join(''), events: emitted },
      ...trace,
    })[Symbol.asyncIterator]() as AsyncIterator<RunChunk, unknown>
  }

  private emit(chunk: RunChunk): void {
    const {
      part = 0,
      kind = 'text',
      data,
    } = typeof chunk === 'string' ? { data: chunk } : (chunk as RunDelta)
    if (!isPart(part)) throw new EvenkeelError('BAD_REQUEST', 'part must be a whole number from 0 to 65535')
    if (!isKind(kind)) throw new EvenkeelError('BAD_REQUEST', runKindRule)
    if (data === undefined) throw new EvenkeelError('BAD_REQUEST', 'yield a text, or an object with data')
    if (data === '') return
    if (typeof data !== 'string') this.keep(encodeDelta(part, kind, data))
    else for (const text of pieces(data)) this.keep(encodeDelta(part, kind, text))
    this.options.dirty(this)
  }

  private keep(json: string): void {
    if (json.length > defaultLimits.runEventBytes)
      throw new EvenkeelError(
        'TOO_LARGE',
        `data other than text has at most ${defaultLimits.runEventBytes} bytes as JSON`,
      )
    this.kept.push({ seq: ++this.seq, json })
    this.keptBytes += json.length
  }

  private finish(json: string): void {
    this.end = { seq: ++this.seq, json }
    this.options.dirty(this)
  }

  private firstUnsent(): number {
    const first = this.kept[0]
    return first === undefined ? 0 : Math.max(0, this.sent + 1 - first.seq)
  }

  private wake(): void {
    this.room?.()
    this.room = null
  }
}

function endJson(usage: unknown): string {
  const json = JSON.stringify({ type: 'end', ...(usage === undefined ? {} : { usage }) })
  if (json.length > usageBytesMost)
    throw new EvenkeelError('TOO_LARGE', `what a handler returns has at most ${usageBytesMost} bytes as JSON`)
  return json
}

/** A long text in pieces that break no character. */
function* pieces(text: string): Generator<string> {
  for (let at = 0; at < text.length; ) {
    let end = Math.min(at + textUnitsMost, text.length)
    if (end < text.length && isHighSurrogate(text.charCodeAt(end - 1))) end--
    yield text.slice(at, end)
    at = end
  }
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit < 0xdc00
}

/** Throws RECORD_INVALID. */
export function parseEmitted(json: string): Required<RunDelta>[] {
  return parseEntry({ epoch: 0, first: 0, json }).events.flatMap((event) =>
    event.type === 'delta' ? [{ part: event.part, kind: event.kind, data: event.data }] : [],
  )
}
