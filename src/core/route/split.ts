import { pointOf } from '../balance/rendezvous.ts'
import { fitsAny, type RequestConditions, type ShownRequest } from './conditions.ts'

/** A part of a route's clients that goes to another pool. */
export interface Split {
  readonly pool: string
  /** Of all clients of the route; 0 to 100, fractions too. */
  readonly percent: number
  /** Who shows one of these is served here, whatever the percentage. */
  readonly force?: RequestConditions
}

/** What a client is known by. `cookie`: one that the gateway sets. Clients that show nothing stay with the route's pool. */
export interface Sticky {
  readonly by: 'cookie' | 'header' | 'claim' | 'ip'
  /** Of the cookie, the header or the claim. */
  readonly name?: string
  /** Routes with the same seed give a client the same part; another seed draws lots anew. Default ''. */
  readonly seed?: string
}

/** The part that a client belongs to whatever the percentages are; null: the percentages decide. */
export function forcedPart(split: readonly Split[], shown: ShownRequest): Split | null {
  return split.find(({ force }) => force !== undefined && fitsAny(force, shown)) ?? null
}

/**
 * The part of the client with this key; null: it stays with the route's pool. The first part takes points from 0 up and the second from 100
 * down, so that either changes without the other: only clients between it and the route's pool move. Further parts lie behind these two in
 * turn, and shift when what is before them on their side changes.
 */
export function partOf(split: readonly Split[], key: string, seed = ''): Split | null {
  const point = 100 * pointOf(key, seed)
  const reach = [0, 0]
  for (const [index, part] of split.entries()) {
    const side = index % 2
    reach[side]! += part.percent
    if ((side === 0 ? point : 100 - point) < reach[side]!) return part
  }
  return null
}
