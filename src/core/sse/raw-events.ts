const lf = 0x0a
const cr = 0x0d
const mark = [0x64, 0x61, 0x74, 0x61] as const
const colon = 0x3a

/**
 * Divides a stream that another server makes into its events, so that each is one event of a run: returns where the event ends that begins at `from`,
 * which is the beginning of a block; -1: there is no whole one before `to`. A block without `data`, which clients pass over, goes with the event
 * behind it: the number of an event is how many a client has got.
 */
export function endOfEvent(bytes: Uint8Array, from: number, to: number): number {
  let hasData = isData(bytes, from, to)
  for (let at = from; at < to; at++) {
    const byte = bytes[at]!
    if (byte !== lf && byte !== cr) continue
    const next = at + 1 < to ? bytes[at + 1]! : 0
    let end = -1
    if (next === byte) end = at + 2
    else if (byte === lf && next === cr && at + 2 < to && bytes[at + 2] === lf) end = at + 3
    if (end === -1) hasData ||= isData(bytes, at + 1, to)
    else if (hasData) return end
    else {
      hasData = isData(bytes, end, to)
      at = end - 1
    }
  }
  return -1
}

/** Whether a line begins here that is a field `data`. */
function isData(bytes: Uint8Array, at: number, to: number): boolean {
  if (at + 4 >= to) return false
  for (let i = 0; i < 4; i++) if (bytes[at + i] !== mark[i]) return false
  const next = bytes[at + 4]
  return next === colon || next === lf || next === cr
}

const blankLine = /(?:\n|\r)(\r?\n|\r)$/

/**
 * The event with an id. At its end, where it counts for the block that clients see, whatever id the server gave it. What does not end with a
 * blank line is the end of a stream, and stays as it is.
 */
export function withId(event: string, id: string): string {
  if (event.endsWith('\n\n')) return `${event.slice(0, -1)}id: ${id}\n\n`
  const found = blankLine.exec(event)
  if (found === null) return event
  const at = event.length - found[1]!.length
  return `${event.slice(0, at)}id: ${id}\n${event.slice(at)}`
}
