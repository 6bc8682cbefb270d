import { type HistoryBounds, historySizeMax } from '../core/channel/history-rules.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Position } from '../protocol/position.ts'

export interface HistoryMessage {
  readonly position: Position
  readonly payload: Buffer
  readonly text: boolean
}

export interface HistoryRead {
  /** The newest position; null: there is no history, or none any more. */
  readonly head: Position | null
  /** What is stored behind the position that was asked for, without a hole, up to the head. */
  readonly messages: readonly HistoryMessage[]
  /** True when the position is of this epoch and nothing between it and the head is missing. */
  readonly continuous: boolean
}

/**
 * What was published to channels, kept for those who come back. All members of the cluster share it.
 *
 * A history begins with its first message and ends `ttlMs` after its last one, or when Redis has lost it or may have lost
 * some of it (another server took over). The next one has another epoch and counts from 1 again.
 */
export interface History {
  /**
   * Stores the message, forgets those beyond `size`, and publishes it with its position, in one step: subscribers get messages
   * in the order of their offsets. Resolves with the position. The buffer may be reused as soon as the call returns.
   * Rejects as `Bus.publish` does, and with BAD_REQUEST for bounds beyond theirs.
   */
  publish(channel: string, payload: Buffer, text: boolean, bounds: HistoryBounds): Promise<Position>

  /**
   * Reads what is stored behind a position; behind one of another epoch that is everything. null: the head alone, and
   * `continuous` is true. Returns about 4 MiB at most, the newest; what is cut off counts as missing.
   * Rejects with NOT_READY when the history is away, BAD_REQUEST for a bad name.
   */
  read(channel: string, after: Position | null): Promise<HistoryRead>
}

/** What one read may bring, in bytes of payload, except that one message is never too large. */
export const historyReadBytes = 4 * 1024 * 1024

const ttlMsMax = 2_147_483_647

/** Throws BAD_REQUEST. */
export function assertHistoryBounds({ size, ttlMs }: HistoryBounds): void {
  if (!Number.isSafeInteger(size) || size < 1 || size > historySizeMax)
    throw new EvenkeelError('BAD_REQUEST', `size must be a whole number from 1 to ${historySizeMax}`)
  if (!Number.isSafeInteger(ttlMs) || ttlMs < 1 || ttlMs > ttlMsMax)
    throw new EvenkeelError('BAD_REQUEST', `ttlMs must be a whole number from 1 to ${ttlMsMax}`)
}

/** `messages` end at the head and have no hole. */
export function historyRead(
  after: Position | null,
  head: Position | null,
  messages: readonly HistoryMessage[],
): HistoryRead {
  const continuous =
    after === null ||
    (head !== null && after.epoch === head.epoch && after.offset + messages.length === head.offset)
  return { head, messages, continuous }
}
