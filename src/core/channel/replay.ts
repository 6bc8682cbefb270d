import type { Position } from '../../protocol/position.ts'

export interface Placed {
  readonly position: Position | null
}

/** The end of a channel's history: messages without a hole, the last one at the head. */
export interface Run<M extends Placed> {
  readonly head: Position
  readonly messages: readonly M[]
}

/** What was found when everything behind `after` was asked for. */
export interface Found<M extends Placed> {
  /** null: the head alone was asked for. */
  readonly after: Position | null
  /** null: there is no history. */
  readonly head: Position | null
  readonly messages: readonly M[]
}

/** The place of those who know that there is no history yet. No history has its epoch. */
export const nowhere: Position = { epoch: '_', offset: 0 }

export function isSamePosition(a: Position, b: Position): boolean {
  return a.epoch === b.epoch && a.offset === b.offset
}

/** What a client at `since` is given, and whether it then has everything. */
export function behind<M extends Placed>(
  since: Position,
  { head, messages }: Run<M>,
): { messages: readonly M[]; continuous: boolean } {
  if (since.epoch !== head.epoch) return { messages, continuous: false }
  const missing = head.offset - since.offset
  if (missing < 0) return { messages: [], continuous: false }
  if (missing > messages.length) return { messages, continuous: false }
  return { messages: messages.slice(messages.length - missing), continuous: true }
}

/** True when the history holds nothing for a client at `since` that was not found. */
export function answers(since: Position, { after, head, messages }: Found<Placed>): boolean {
  if (head === null) return true
  if (after === null) return false
  const asked = head.offset - after.offset
  const isEverything = after.epoch !== head.epoch || after.offset === 0 || messages.length < asked
  return isEverything || (since.epoch === head.epoch && since.offset >= after.offset)
}

/**
 * What was found, up to `last`, where the members of the channel are by now. `recentBehind` gives what they got behind a
 * position, null when it is not kept any more. null: the two do not fit together.
 */
export function upTo<M extends Placed>(
  last: Position,
  { head, messages }: Found<M>,
  recentBehind: (position: Position) => readonly M[] | null,
): Run<M> | null {
  if (head === null || head.epoch !== last.epoch) return null
  const ahead = head.offset - last.offset
  if (ahead >= 0) return { head: last, messages: messages.slice(0, Math.max(0, messages.length - ahead)) }
  const later = recentBehind(head)
  return later === null ? null : { head: last, messages: [...messages, ...later] }
}

/**
 * From where a channel's history is to be read so that the answer serves as many as possible: its members, who are at
 * `last` (null: not known), and clients that have come back, at `wishes`. null: the head is enough.
 */
export function readFrom(last: Position | null, wishes: readonly Position[]): Position | null {
  if (last === null) {
    const [first] = wishes
    return first === undefined ? null : lowestOf(first, wishes)
  }
  const foreign = wishes.find(({ epoch }) => epoch !== last.epoch)
  // From here everything that is stored follows, whichever of the two epochs is the present one.
  if (foreign !== undefined) return { epoch: foreign.epoch, offset: 0 }
  return lowestOf(last, wishes)
}

function lowestOf(first: Position, places: readonly Position[]): Position {
  return places.reduce(
    (lowest, place) => (place.epoch === first.epoch && place.offset < lowest.offset ? place : lowest),
    first,
  )
}
