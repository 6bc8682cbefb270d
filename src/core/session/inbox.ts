/** One client message on its way to the node. */
export interface InboxItem {
  readonly payload: Buffer
  readonly text: boolean
  /** Another node was given it and did not commit it. */
  redelivered: boolean
}

/**
 * A session's messages from the client until the node has committed them: one queue for what is in flight,
 * held during a migration, waiting for a node, or due for redelivery.
 *
 * `acked ≤ sent ≤ last`, all counting from 0 (nothing yet): up to `acked` is committed and forgotten, up to `sent`
 * was given to the present node, the rest waits.
 */
export class Inbox {
  acked = 0
  sent = 0
  last = 0
  bytes = 0
  /** The node commits what it has been given by another gateway, which the client has not sent here yet. */
  private foreign = false
  /** null: the node has got it from another gateway, and nobody has brought it here. */
  private items: (InboxItem | null)[] = []

  get length(): number {
    return this.items.length
  }

  /** Everything up to `acked` is committed; the node may hold more than what is sent to it from here. */
  restore(acked: number): void {
    this.acked = acked
    this.sent = acked
    this.last = acked
    this.foreign = true
  }

  /** Everything up to `acked` is committed; the node has all up to `received`, which its client does not number. */
  adopt(acked: number, received: number): void {
    this.acked = acked
    this.sent = received
    this.last = received
    this.items = Array.from({ length: received - acked }, () => null)
  }

  /** True for a message that the node may have and that is not here. */
  misses(seq: number): boolean {
    return seq > this.acked && this.items[seq - this.acked - 1] === null
  }

  /** Brings a message that is missed. */
  fill(seq: number, payload: Buffer, text: boolean): void {
    if (!this.misses(seq)) return
    this.items[seq - this.acked - 1] = { payload, text, redelivered: false }
    this.bytes += payload.length
  }

  /** Returns the sequence number of the message. */
  push(payload: Buffer, text: boolean, redelivered = false): number {
    this.items.push({ payload, text, redelivered })
    this.bytes += payload.length
    return ++this.last
  }

  /** The next message for the node, or undefined when all were given to it. Its number is `sent` after the call. */
  next(): InboxItem | undefined {
    while (this.sent < this.last) {
      const item = this.items[this.sent++ - this.acked]
      if (item) return item
    }
    return undefined
  }

  /** Forgets all up to `ack`. Returns false, and changes nothing, for a number that was not given to the node. */
  commit(ack: number): boolean {
    if (ack > this.sent) {
      if (!this.foreign) return false
      this.sent = Math.min(ack, this.last)
    }
    while (this.acked < ack && this.items.length > 0) {
      this.bytes -= this.items.shift()?.payload.length ?? 0
      this.acked++
    }
    if (this.acked < ack) {
      this.acked = ack
      this.sent = ack
      this.last = ack
    }
    return true
  }

  /** Gives up all that is not committed, for others to deliver. */
  takeAll(): InboxItem[] {
    const items = this.items.filter((item) => item !== null)
    this.items = []
    this.bytes = 0
    this.acked = this.last
    this.sent = this.last
    return items
  }

  /**
   * The present node is gone or has handed over: what it did not commit will be given to the next one.
   * `handled` says that the old node may have begun it. Returns how many messages were marked redelivered.
   */
  rewind(handled: boolean): number {
    this.foreign = false
    const inFlight = this.items.slice(0, this.sent - this.acked).filter((item) => item !== null)
    this.sent = this.acked
    if (!handled) return 0
    for (const item of inFlight) item.redelivered = true
    return inFlight.length
  }
}
