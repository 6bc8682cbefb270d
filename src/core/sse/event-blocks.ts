const lf = 0x0a
const cr = 0x0d
const bom = [0xef, 0xbb, 0xbf] as const

/**
 * Divides the bytes of an event stream (WHATWG HTML, §9.2) into blocks, each with the blank line that ends it. Put together again they are the
 * stream, byte for byte, but for a byte order mark at its beginning: it belongs to no line, and the stream may be the continuation of another.
 */
export class EventBlocks {
  private readonly maxBytes: number
  private pieces: Uint8Array[] = []
  private bytes = 0
  private lineIsEmpty = true
  private afterCr = false
  /** Bytes of a byte order mark that may be the first ones; null: it is decided. */
  private mark: number | null = 0

  /** `maxBytes`: the largest block. */
  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }

  /** The blocks that are complete with these bytes. Throws RangeError when one is too large. */
  push(chunk: Uint8Array): Uint8Array[] {
    const blocks: Uint8Array[] = []
    let start = this.mark === null ? 0 : this.passMark(chunk)
    for (let at = start; at < chunk.length; at++) {
      const byte = chunk[at]!
      // The second half of CR LF ends nothing once more.
      const isSecondHalf = byte === lf && this.afterCr
      this.afterCr = byte === cr
      if (isSecondHalf) continue
      if (byte !== lf && byte !== cr) {
        this.lineIsEmpty = false
        continue
      }
      if (this.lineIsEmpty) {
        const wholeEnd = byte === cr && chunk[at + 1] === lf ? at + 2 : at + 1
        blocks.push(this.take(chunk.subarray(start, wholeEnd)))
        start = wholeEnd
        if (wholeEnd === at + 2) {
          at++
          this.afterCr = false
        }
      }
      this.lineIsEmpty = true
    }
    if (start < chunk.length) this.keep(chunk.subarray(start))
    return blocks
  }

  /** Where the stream begins in the chunk. */
  private passMark(chunk: Uint8Array): number {
    let at = 0
    while (this.mark !== null && at < chunk.length) {
      if (chunk[at] === bom[this.mark]) {
        at++
        this.mark = this.mark === bom.length - 1 ? null : this.mark + 1
        continue
      }
      // It was none: what was passed over belongs to the first line.
      if (this.mark > 0) {
        this.keep(Uint8Array.from(bom.slice(0, this.mark)))
        this.lineIsEmpty = false
      }
      this.mark = null
    }
    return at
  }

  /** What has come of a block that is not complete. */
  rest(): Uint8Array {
    return this.take(new Uint8Array(0))
  }

  private keep(piece: Uint8Array): void {
    this.bytes += piece.length
    if (this.bytes > this.maxBytes) throw new RangeError(`an event has more than ${this.maxBytes} bytes`)
    this.pieces.push(piece)
  }

  private take(last: Uint8Array): Uint8Array {
    if (this.pieces.length === 0) {
      if (last.length > this.maxBytes) throw new RangeError(`an event has more than ${this.maxBytes} bytes`)
      return last
    }
    this.keep(last)
    const whole = new Uint8Array(this.bytes)
    let at = 0
    for (const piece of this.pieces) {
      whole.set(piece, at)
      at += piece.length
    }
    this.pieces = []
    this.bytes = 0
    return whole
  }
}

/** The id that a client remembers after the block, as latin1 of its bytes; null: the block says nothing of it. */
export function idOf(block: Uint8Array): string | null {
  let id: string | null = null
  let start = 0
  for (let at = 0; at <= block.length; at++) {
    if (at < block.length && block[at] !== lf && block[at] !== cr) continue
    if (block[start] === 0x69 && block[start + 1] === 0x64) {
      const value = idIn(block, start + 2, at)
      if (value !== null) id = value
    }
    start = at + 1
  }
  return id
}

/** The value after `id`, which begins at `from`; null when the line is another field, or one that clients ignore. */
function idIn(block: Uint8Array, from: number, end: number): string | null {
  let start = from
  if (start < end) {
    if (block[start] !== 0x3a) return null
    start++
    if (start < end && block[start] === 0x20) start++
  }
  let id = ''
  for (let at = start; at < end; at++) {
    if (block[at] === 0) return null
    id += String.fromCharCode(block[at]!)
  }
  return id
}
