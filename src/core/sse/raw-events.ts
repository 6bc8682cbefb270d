const boundary = /\n\r?\n|\r\r/g
const dispatching = /(^|[\r\n])data(:|[\r\n])/

/**
 * Divides the text of a stream that another server makes into its events, so that each is one event of a run. Put together again they are
 * the text. A block without `data`, which clients pass over, goes with the event behind it: the number of an event is how many a client has got.
 */
export class RawEvents {
  private before = ''

  /** `text` ends between two blocks. */
  push(text: string): string[] {
    const events: string[] = []
    let start = 0
    boundary.lastIndex = 0
    while (boundary.exec(text) !== null) {
      const end = boundary.lastIndex
      const block = text.slice(start, end)
      start = end
      if (block.startsWith('data:') || dispatching.test(block)) {
        events.push(this.before === '' ? block : this.before + block)
        this.before = ''
      } else this.before += block
    }
    if (start < text.length) this.before += text.slice(start)
    return events
  }

  /** What has come behind the last event. */
  get rest(): string {
    return this.before
  }
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
