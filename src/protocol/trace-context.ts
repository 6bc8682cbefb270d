/** A place in a trace, as the headers of W3C Trace Context say it. */
export interface TraceContext {
  readonly traceparent: string
  /** Absent: nobody has added to it. */
  readonly tracestate?: string
}

const traceparentPattern = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}/
const traceparentChars = 55
const traceparentCharsMost = 128
/** What has to be passed on at least; longer ones are left out. */
const tracestateCharsMost = 512

/** null: there is none, or none that is valid. */
export function traceContextOf({
  traceparent,
  tracestate,
}: Readonly<Record<string, unknown>>): TraceContext | null {
  if (!isTraceparent(traceparent)) return null
  const isState =
    typeof tracestate === 'string' &&
    tracestate !== '' &&
    tracestate.length <= tracestateCharsMost &&
    /^[\t\x20-\x7e]*$/.test(tracestate)
  return isState ? { traceparent, tracestate } : { traceparent }
}

/** Versions after 00 may have more behind a dash. */
function isTraceparent(value: unknown): value is string {
  if (typeof value !== 'string' || !traceparentPattern.test(value)) return false
  if (value.length === traceparentChars) return true
  const rest = value.slice(traceparentChars)
  return !value.startsWith('00') && value.length <= traceparentCharsMost && /^-[\x21-\x7e]*$/.test(rest)
}

/** What a run continues. */
export interface RunTrace extends TraceContext {
  /** It was asked for within something that goes on much longer, and is a trace of its own that points there. */
  readonly isLink: boolean
}

/** `text`: as `JSON.stringify` has made it, or anything else. null: nothing that could be understood. */
export function parseRunTrace(text: string): RunTrace | null {
  if (text === '') return null
  try {
    const given = JSON.parse(text) as Record<string, unknown> | null
    const context = given === null ? null : traceContextOf(given)
    return context === null ? null : { ...context, isLink: given!.isLink === true }
  } catch {
    return null
  }
}
