import { backoffMs } from '../src/core/backoff.ts'
import { isTerminal } from '../src/core/run/events.ts'
import { invalidFrame } from '../src/protocol/client-frames.ts'
import {
  encodeRunAttach,
  encodeRunStart,
  parseRunEvents,
  parseRunFailure,
  RunFrame,
  type RunStart,
} from '../src/protocol/run-frames.ts'
import { utf8 } from '../src/protocol/utf8.ts'
import { gapError, type PlacedRunEvent, Run } from './run.ts'
import { RunError, type RunErrorCode } from './run-error.ts'
import type { Clock, RunOptions } from './types.ts'

/** A run that is read. */
interface Reading {
  readonly run: Run
  /** null: the run exists already. */
  readonly start: Omit<RunStart, 'id' | 'credit'> | null
  /** Of the present connection; 0: none. */
  stream: number
  cancelled: boolean
  failures: number
  timer: unknown
}

export interface RunsOptions {
  clock: Clock
  random: () => number
  /** False: there is no connection now. */
  isOpen(): boolean
  send(frame: string): void
}

/** The codes of a gateway that cannot serve a run now; another one, or a later time, may. */
const laterCodes: ReadonlySet<string> = new Set(['AWAY', 'DRAINING', 'NOT_READY'])

/** The runs that one client reads, over whatever connection there is. */
export class Runs {
  readonly #options: RunsOptions
  readonly #readings = new Set<Reading>()
  #lastStream = 0
  #ended: string | null = null

  constructor(options: RunsOptions) {
    this.#options = options
  }

  start(name: string, body: unknown, { pool, key = randomKey(), mode }: RunOptions): Run {
    return this.#read(null, null, { name, body, key, pool, mode })
  }

  attach(run: string, after: string | null): Run {
    return this.#read(run, after, null)
  }

  /** A new connection: all runs go on over it. */
  welcomed(): void {
    this.#lastStream = 0
    for (const reading of this.#readings) this.#open(reading)
  }

  /** Takes a frame; false: it is not about runs. Throws BAD_REQUEST. */
  received(type: number, frame: string): boolean {
    if (type === RunFrame.events) this.#events(frame)
    else if (type === RunFrame.failure) this.#failure(frame)
    else return false
    return true
  }

  /** The client is over. */
  end(why: string): void {
    this.#ended = why
    for (const reading of this.#readings) this.#finish(reading, new RunError('GONE', why, false))
  }

  #read(id: string | null, after: string | null, start: Reading['start']): Run {
    const stream = {
      grant: (bytes: number) => this.#say(reading, `k${reading.stream} ${bytes}`),
      cancel: () => {
        reading.cancelled = true
        this.#say(reading, `x${reading.stream}`)
      },
      detach: () => {
        if (!this.#readings.has(reading)) return
        this.#say(reading, `d${reading.stream}`)
        this.#forget(reading)
      },
    }
    const run = new Run(id, after, stream)
    const reading: Reading = { run, start, stream: 0, cancelled: false, failures: 0, timer: null }
    this.#readings.add(reading)
    if (this.#ended !== null) this.end(this.#ended)
    else if (this.#options.isOpen()) this.#open(reading)
    return run
  }

  #open(reading: Reading): void {
    const { run, start, cancelled } = reading
    this.#options.clock.clearTimeout(reading.timer)
    reading.stream = ++this.#lastStream
    const common = { id: reading.stream, credit: run.credit }
    this.#options.send(
      run.id === null
        ? encodeRunStart({ ...start!, ...common })
        : encodeRunAttach({ run: run.id, after: run.received, ...common }),
    )
    if (cancelled) this.#options.send(`x${reading.stream}`)
  }

  /** Without a connection what is said now is said by the next attach. */
  #say(reading: Reading, frame: string): void {
    if (this.#readings.has(reading) && reading.stream > 0 && this.#options.isOpen()) this.#options.send(frame)
  }

  #events(frame: string): void {
    const { id, events } = parseRunEvents(frame)
    const reading = this.#find(id)
    if (reading === undefined) return
    if (!events.every(isPlaced)) throw invalidFrame('events: each must have an offset and a type')
    reading.failures = 0
    for (const event of events) if (event.type === 'run') reading.run.id = event.run
    reading.run.receive(events, utf8(frame).length)
    if (events.some(isTerminal)) this.#finish(reading, null)
  }

  #failure(frame: string): void {
    const { id, code, message, retryAfterMs, oldest } = parseRunFailure(frame)
    const reading = this.#find(id)
    if (reading === undefined) return
    reading.stream = 0
    if (laterCodes.has(code)) this.#openLater(reading)
    else if (code === 'OVER') this.#finish(reading, null)
    else if (code === 'GAP') this.#finish(reading, gapError(oldest))
    else
      this.#finish(
        reading,
        new RunError(code as RunErrorCode, message, retryAfterMs !== undefined, retryAfterMs),
      )
  }

  #openLater(reading: Reading): void {
    const { clock, random } = this.#options
    const waitMs = backoffMs(reading.failures++, random, 1_000, 10_000)
    reading.timer = clock.setTimeout(() => {
      // Else the welcome of the next connection opens it.
      if (this.#options.isOpen()) this.#open(reading)
    }, waitMs)
  }

  #find(stream: number): Reading | undefined {
    for (const reading of this.#readings) if (reading.stream === stream) return reading
    return undefined
  }

  #finish(reading: Reading, error: RunError | null): void {
    this.#forget(reading)
    reading.run.finish(error)
  }

  #forget(reading: Reading): void {
    this.#options.clock.clearTimeout(reading.timer)
    this.#readings.delete(reading)
  }
}

function isPlaced(value: unknown): value is PlacedRunEvent {
  const { type, offset } = (value ?? {}) as Partial<PlacedRunEvent>
  return typeof type === 'string' && typeof offset === 'string'
}

/** Not `randomUUID`, which pages without TLS do not have. */
function randomKey(): string {
  return crypto.getRandomValues(new Uint32Array(4)).join('-')
}
