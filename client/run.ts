import { isTerminal, type RunEvent, type RunStatus } from '../src/core/run/events.ts'
import { RunError } from './run-error.ts'
import { type RunPart, Transcript } from './transcript.ts'

/** An event of a run, and where its reader is when it has it. */
export type PlacedRunEvent = RunEvent & { readonly offset: string }

/** What may wait for the one who reads. */
export const windowBytes = 64 * 1024

export interface RunStream {
  /** So many bytes were read. */
  grant(bytes: number): void
  cancel(): void
  /** Nobody reads any more. */
  detach(): void
}

interface Frame {
  readonly events: PlacedRunEvent[]
  readonly bytes: number
}

/**
 * A run as one reader sees it: an async iterator of its events, which goes on over lost connections, gateways and producers. It ends behind the event
 * `end`; it throws a `RunError` when the run has failed, was refused, or cannot be read any more. To leave the loop is to detach: the run goes on.
 */
export class Run implements AsyncIterable<PlacedRunEvent> {
  /** Null until the gateway has answered. */
  id: string | null
  /** Of the last event that was read; null before the first. */
  offset: string | null
  status: RunStatus = 'queued'
  /** Of the last event that came. */
  received: string | null
  readonly #transcript = new Transcript()
  readonly #stream: RunStream
  #frames: Frame[] = []
  #unread = 0
  #read = 0
  #error: RunError | null = null
  #complete = false
  #wake: (() => void) | null = null

  constructor(id: string | null, after: string | null, stream: RunStream) {
    this.id = id
    this.offset = after
    this.received = after
    this.#stream = stream
  }

  /** The text of the events that were read. */
  get text(): string {
    return this.#transcript.text
  }

  /** All parts of the events that were read, in the order in which they began. */
  get parts(): readonly RunPart[] {
    return this.#transcript.parts
  }

  /** What the gateway may send before something is read. */
  get credit(): number {
    return Math.max(0, windowBytes - this.#unread)
  }

  /** Ends the run for all its readers; its event `end` says so. Works while there is no connection too. */
  cancel(): void {
    if (!this.#complete) this.#stream.cancel()
  }

  /** @internal */
  receive(events: PlacedRunEvent[], bytes: number): void {
    this.received = events.at(-1)?.offset ?? this.received
    this.#frames.push({ events, bytes })
    this.#unread += bytes
    this.#wake?.()
  }

  /** @internal Nothing more will come. */
  finish(error: RunError | null): void {
    this.#complete = true
    this.#error = error
    this.#wake?.()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<PlacedRunEvent, void, undefined> {
    try {
      for (;;) {
        for (let frame = this.#frames.shift(); frame !== undefined; frame = this.#frames.shift()) {
          for (const event of frame.events) {
            this.#apply(event)
            yield event
          }
          this.#consumed(frame.bytes)
        }
        if (this.#error !== null) throw this.#error
        if (this.#complete) return
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
    } finally {
      this.#stream.detach()
    }
  }

  #apply(event: PlacedRunEvent): void {
    this.offset = event.offset
    this.#transcript.apply(event)
    this.status = event.type === 'run' ? event.status : isTerminal(event) ? 'ended' : 'running'
    if (event.type === 'fail') throw new RunError(event.code, event.message, event.retryable)
    if (event.type === 'gap') throw gapError(event.oldest)
  }

  #consumed(bytes: number): void {
    this.#unread -= bytes
    this.#read += bytes
    if (this.#read < windowBytes / 2) return
    this.#stream.grant(this.#read)
    this.#read = 0
  }
}

export function gapError(oldest: string | undefined): RunError {
  return new RunError('GAP', `a part of the run is lost; it can be read from ${oldest} on`, false)
}
