/** Ids of events that are remembered as delivered; a server that repeats more of them than this is followed by the last one alone. */
const keptIds = 1_024
/** A longer id is not put into a request. */
const idBytesMax = 1_024

/**
 * Where one client is in an event stream that has ids, so that another server can go on there.
 */
export class EventCursor {
  /** What the client remembers: the id of the last event that it was given, or the one it came with. */
  lastId: string
  /** The stream has ids: another server can be asked to go on. */
  hasIds = false
  private readonly recent: string[] = []

  constructor(lastId: string) {
    this.lastId = lastId
    this.recent.push(lastId)
  }

  get resumable(): boolean {
    return this.hasIds && isSendable(this.lastId)
  }

  /** The client is given a block with this id; null: it has none. */
  delivered(id: string | null): void {
    if (id === null) return
    this.lastId = id
    this.hasIds = true
    this.recent.push(id)
    if (this.recent.length > keptIds) this.recent.shift()
  }

  /** A server was asked for what is behind `since`; what of its answer the client has got already is to be passed over. */
  follow(since: string): EventSplice {
    return new EventSplice(this, since)
  }

  /** Whether the client was given it after `since`; null: that is too long ago to be known. */
  hasDelivered(id: string, since: string): boolean | null {
    const from = this.recent.lastIndexOf(since)
    if (from === -1) return null
    return this.recent.indexOf(id, from + 1) !== -1
  }
}

/** The answer of a server that was asked for the events behind one id, while another one went on for a moment. */
export class EventSplice {
  private readonly cursor: EventCursor
  private readonly since: string
  private repeating: boolean | null = null

  constructor(cursor: EventCursor, since: string) {
    this.cursor = cursor
    this.since = since
  }

  /** Whether the next block is one that the client has not got. To be asked in order, from the moment on when nobody else delivers. */
  isNew(id: string | null): boolean {
    // At first it is not known how far the other one will come.
    this.repeating ??= this.cursor.lastId !== this.since
    if (!this.repeating) return true
    if (id === null) return false
    if (id === this.cursor.lastId) {
      this.repeating = false
      return false
    }
    // A server that does not repeat what the other one sent after `since` is no further than its own events.
    if (this.cursor.hasDelivered(id, this.since) === false) {
      this.repeating = false
      return true
    }
    return false
  }
}

function isSendable(id: string): boolean {
  return id !== '' && id.length <= idBytesMax && /^[\t\x20-\x7e\x80-\xff]*$/.test(id) && id.trim() === id
}
