import { is256Bits, isSessionId } from './names.ts'
import { formatPosition, type Position, parsePosition } from './position.ts'

/**
 * What an SSE client needs to come back; every `id:` holds all of it, since EventSource keeps only the last one:
 * `<session>.<token>.<out>`, then `.<key>.<position>` for each channel of which a position is known. Pure and browser-safe.
 */
export interface SseCursor {
  readonly session: string
  readonly token: string
  /** The last output that the client has got. */
  readonly out: number
  /** By the channel's key. */
  readonly positions: ReadonlyMap<string, Position>
}

/** What a client shows whose session is over: it need not come back. */
export const endedEventId = 'end'

/** The most channels in one id. */
export const cursorChannels = 8
export const channelKeyLength = 6
const cursorLength = 1024

export function encodeCursor({ session, token, out, positions }: SseCursor): string {
  return `${session}.${token}.${out}${encodePositions([...positions])}`
}

/** The end of an id. */
export function encodePositions(positions: readonly (readonly [key: string, position: Position])[]): string {
  return positions.map(([key, position]) => `.${key}.${formatPosition(position)}`).join('')
}

/** Returns null for what no gateway has made. */
export function parseCursor(id: string): SseCursor | null {
  if (id.length > cursorLength) return null
  const [session, token, number = '', ...rest] = id.split('.')
  if (!isSessionId(session) || !is256Bits(token) || !/^(?:0|[1-9]\d{0,9})$/.test(number)) return null
  // As on the link.
  const out = Number(number)
  if (out > 0xffff_ffff || rest.length % 2 !== 0 || rest.length > 2 * cursorChannels) return null
  const positions = new Map<string, Position>()
  for (let i = 0; i < rest.length; i += 2) {
    const position = parsePosition(rest[i + 1]!)
    if (position === null || rest[i]!.length !== channelKeyLength) return null
    positions.set(rest[i]!, position)
  }
  return { session, token, out, positions }
}
