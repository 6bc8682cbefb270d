import type { Position } from '../protocol/position.ts'

/**
 * What a subscriber of a channel gets, in the order of each publisher. `position` is null for what was published without
 * history. The handler must not throw.
 */
export type ChannelHandler = (payload: Buffer, text: boolean, position: Position | null) => void

/** Channels whose subscription was interrupted and is live again. */
export type GapListener = (channels: readonly string[]) => void

export interface Readiness {
  readonly ready: boolean
  /** One sentence for an operator when not ready; it never holds a secret. */
  readonly reason: string | null
}

/**
 * Fan-out between the gateways of a cluster: at most once, in order per publisher and channel.
 * It counts no references: its caller tells it of the first subscriber of a channel and of the last.
 */
export interface Bus {
  /**
   * Resolves true when every later publish reaches `handler`; false when the bus is away: the subscription is kept,
   * becomes live by itself and is then named in a gap.
   * Rejects with CONFLICT when the channel has a handler already, BAD_REQUEST for a bad name, NOT_READY after `close`.
   */
  subscribe(channel: string, handler: ChannelHandler): Promise<boolean>

  /** The handler is not called any more from now on. Resolves when the other side knows, or is away; never rejects. */
  unsubscribe(channel: string): Promise<void>

  /**
   * Resolves when every live subscriber, this process included, has been sent the payload. The buffer may be
   * reused as soon as the call returns.
   * Rejects with NOT_READY when the bus is away or too far behind (nothing is queued for later; what was cut off by
   * a time-out may have gone out all the same), TOO_LARGE above `messageBytes`, BAD_REQUEST for a bad name or
   * for text that is not UTF-8.
   */
  publish(channel: string, payload: Buffer, text: boolean): Promise<void>

  /**
   * Called when interrupted subscriptions are live again: what was published meanwhile may be lost. It comes after the
   * restoration, so that a history read from here misses nothing, and before the first message that follows it. Returns a
   * function that ends it.
   */
  onGap(listener: GapListener): () => void

  status(): Readiness

  /** Ends every subscription. */
  close(): Promise<void>
}
