import { EvenkeelError } from '../../protocol/errors.ts'
import { type DeltaEvent, type FailEvent, type Json, type LogEvent, rawKind } from './events.ts'
import { formatOffset, type Offset } from './offset.ts'

/**
 * Events that were appended in one step, as links and logs carry them: a JSON array (PROTOCOL.md §1.13). A string is a text delta of part 0,
 * an object without `type` another delta, and an object with `type` the event of that name.
 */
export interface Entry {
  readonly epoch: number
  /** Number of the first event; 0 for a fence. The others follow without a hole. */
  readonly first: number
  readonly events: readonly LogEvent[]
}

/** What `Entry` is before somebody needs to look inside. */
export interface RawEntry {
  readonly epoch: number
  readonly first: number
  readonly count: number
  readonly json: string
  /** Of one whose JSON is only made for who asks: what it counts for, in place of the JSON's length, and what is in it. */
  readonly source?: EntrySource
}

export interface EntrySource {
  readonly bytes: number
  opened(): Entry
}

/** What the entry counts for where logs are bounded. */
export function sizeOf(raw: RawEntry): number {
  return raw.source === undefined ? raw.json.length : raw.source.bytes
}

/** The entry of a log. Throws RECORD_INVALID. */
export function openEntry(raw: RawEntry): Entry {
  return raw.source === undefined ? parseEntry(raw) : raw.source.opened()
}

const kindPattern = /^[A-Za-z0-9._:-]{1,64}$/
export const runKindRule = 'kind must be 1 to 64 of A-Z a-z 0-9 . _ : -'
const partMax = 65_535

export function lastOf({ epoch, first, events }: Entry): Offset {
  return { epoch, seq: first + events.length - 1 }
}

/** One event of an entry's array. */
export function encodeDelta(part: number, kind: string, data: Json): string {
  if (part === 0 && kind === 'text' && typeof data === 'string') return JSON.stringify(data)
  return JSON.stringify({
    ...(part === 0 ? {} : { part }),
    ...(kind === 'text' ? {} : { kind }),
    data,
  })
}

export function encodeEvent(event: LogEvent): string {
  return event.type === 'delta' ? encodeDelta(event.part, event.kind, event.data) : JSON.stringify(event)
}

export function encodeFence(epoch: number, resume: 'continue' | 'restart', base: Offset): string {
  return `[${encodeEvent({ type: 'fence', epoch, resume, base: formatOffset(base) })}]`
}

export function failEvent(code: FailEvent['code'], message: string, retryable: boolean): FailEvent {
  return { type: 'fail', code, message, retryable }
}

export function isPart(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= partMax
}

export function isKind(value: unknown): value is string {
  return typeof value === 'string' && kindPattern.test(value)
}

/** Whether doing it a second time could be seen outside. */
export function hasEffect(event: LogEvent): boolean {
  return event.type === 'delta' && event.kind !== 'text' && event.kind !== 'thinking'
}

/** Throws RECORD_INVALID for what is no array of events. */
export function parseEntry({ epoch, first, json }: Pick<RawEntry, 'epoch' | 'first' | 'json'>): Entry {
  let items: unknown
  try {
    items = JSON.parse(json)
  } catch {
    throw invalid('the events of a run are not JSON')
  }
  if (!Array.isArray(items) || items.length === 0) throw invalid('the events of a run must be a JSON array')
  return { epoch, first, events: items.map(parseEvent) }
}

function parseEvent(item: unknown): LogEvent {
  if (typeof item === 'string') return { type: 'delta', part: 0, kind: 'text', data: item }
  if (typeof item !== 'object' || item === null)
    throw invalid('an event of a run must be a string or an object')
  const fields = item as Record<string, unknown>
  switch (fields.type) {
    case undefined:
      return parseDelta(fields)
    case 'fence':
    case 'end':
    case 'fail':
      // Written by gateways, but for `end` and `fail`, which `parseTerminal` has checked before they are stored.
      return fields as unknown as LogEvent
    default:
      throw invalid('type of an event must be fence, end or fail')
  }
}

function parseDelta({ part = 0, kind = 'text', data }: Record<string, unknown>): DeltaEvent {
  if (!isPart(part)) throw invalid('part of a delta must be a whole number from 0 to 65535')
  if (kind !== rawKind && !isKind(kind)) throw invalid(runKindRule)
  if (data === undefined) throw invalid('a delta must have data')
  return { type: 'delta', part, kind, data: data as Json }
}

/** What a producer may end its run with. Throws RECORD_INVALID. */
export function parseTerminal(json: string): LogEvent {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch {
    throw invalid('the end of a run is not JSON')
  }
  const { type, usage, message } = (value ?? {}) as Record<string, unknown>
  if (type === 'end')
    return { type: 'end', reason: 'complete', ...(usage === undefined ? {} : { usage: usage as Json }) }
  if (type === 'fail') return failEvent('HANDLER_FAILED', String(message ?? '').slice(0, 1_024), false)
  throw invalid('a run must end with end or fail')
}

function invalid(message: string): EvenkeelError {
  return new EvenkeelError('RECORD_INVALID', message)
}
