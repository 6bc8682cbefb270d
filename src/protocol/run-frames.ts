/** Frames of `evenkeel.v1` that are about runs (PROTOCOL.md §2.2). Runs in browsers too. */
import { invalidFrame, isMs, parseFields } from './client-frames.ts'

/** The first byte of a frame, or the code of its first character. */
export * as RunFrame from './run-frame.ts'

const idMax = 2 ** 31 - 1
const nameMax = 64
const keyMax = 255
const runMax = 128
const offsetMax = 32

/** Makes a run, and reads it from its beginning. */
export interface RunStart {
  /** The stream: counts up from 1 on each connection. */
  id: number
  /** Default: the pool of the gateway's sessions. */
  pool?: string | undefined
  /** Of `node.run(name, …)`. */
  name: string
  /** What the producer gets. */
  body: unknown
  /** A start with the same key finds the run that the first one has made. */
  key?: string
  /** `attached`: the run is cancelled when its reader has gone. Default `durable`. */
  mode?: 'durable' | 'attached' | undefined
  /** Bytes of events that may be sent before `k` grants more. */
  credit: number
}

/** Reads a run. */
export interface RunAttach {
  id: number
  run: string
  /** The offset of the last event that the client has; null: from the beginning. */
  after: string | null
  credit: number
}

/** Why a stream has ended, or never begun. */
export interface RunFailure {
  id: number
  /**
   * An error code (src/protocol/errors.ts), or `GAP`: what followed the offset is lost. `OVER`: nothing follows the offset. `AWAY`: attach again,
   * here or at another gateway.
   */
  code: string
  message: string
  /** With TOO_MANY_REQUESTS: when to try again. */
  retryAfterMs?: number
  /** With GAP: from here on the run can be read. */
  oldest?: string
}

export function encodeRunStart(start: RunStart): string {
  return `s${JSON.stringify(start)}`
}

export function encodeRunAttach(attach: RunAttach): string {
  return `t${JSON.stringify(attach)}`
}

export function encodeRunFailure(failure: RunFailure): string {
  return `f${JSON.stringify(failure)}`
}

/** Throws BAD_REQUEST naming the field. Fields that are not known stay as they are. */
export function parseRunStart(frame: string): RunStart {
  return parseFields<RunStart>(frame, 'start', {
    id: isId,
    pool: isOptional(isTextUpTo(nameMax)),
    name: isTextUpTo(nameMax),
    body: (value) => value !== undefined,
    key: isOptional(isTextUpTo(keyMax)),
    mode: (value) => value === undefined || value === 'durable' || value === 'attached',
    credit: isMs,
  })
}

/** Throws BAD_REQUEST naming the field. Fields that are not known stay as they are. */
export function parseRunAttach(frame: string): RunAttach {
  return parseFields<RunAttach>(frame, 'attach', {
    id: isId,
    run: isTextUpTo(runMax),
    after: (value) => value === null || isTextUpTo(offsetMax)(value),
    credit: isMs,
  })
}

/** Throws BAD_REQUEST naming the field. Fields that are not known stay as they are. */
export function parseRunFailure(frame: string): RunFailure {
  return parseFields<RunFailure>(frame, 'failure', {
    id: isMs,
    code: isText,
    message: isText,
    retryAfterMs: isOptional(isMs),
    oldest: isOptional(isText),
  })
}

/** Of a `d` or `x` frame. Throws BAD_REQUEST. */
export function parseStreamId(frame: string): number {
  return parseNumbers(frame, 1)[0]!
}

/** Of a `k` frame: id and bytes. Throws BAD_REQUEST. */
export function parseRunCredit(frame: string): [id: number, bytes: number] {
  return parseNumbers(frame, 2) as [number, number]
}

/** Of an `e` frame. Throws BAD_REQUEST. */
export function parseRunEvents(frame: string): { id: number; events: unknown[] } {
  return parseFields<{ id: number; events: unknown[] }>(frame, 'events', { id: isMs, events: Array.isArray })
}

function parseNumbers(frame: string, count: number): number[] {
  const numbers = /^.(?:[1-9]\d{0,9})(?: [1-9]\d{0,9})*$/.test(frame)
    ? frame.slice(1).split(' ').map(Number)
    : []
  if (numbers.length !== count || numbers.some((number) => number > idMax))
    throw invalidFrame(`${frame[0]} must be followed by ${count} whole numbers`)
  return numbers
}

function isId(value: unknown): boolean {
  return isMs(value) && value > 0
}

function isTextUpTo(length: number) {
  return (value: unknown) => isText(value) && value.length > 0 && value.length <= length
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function isOptional(is: (value: unknown) => boolean) {
  return (value: unknown) => value === undefined || is(value)
}
