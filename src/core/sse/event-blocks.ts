const lf = 0x0a
const cr = 0x0d

/**
 * Divides the bytes of an event stream (WHATWG HTML, §9.2) into blocks, each with the blank line that ends it. Put together again they are the
 * stream, byte for byte.
 */
export class EventBlocks {
  private readonly maxBytes: number
  private pieces: Uint8Array[] = []
  private bytes = 0
  private lineIsEmpty = true
  private afterCr = false

  /** `maxBytes`: the largest block. */
  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }

  /** The blocks that are complete with these bytes. Throws RangeError when one is too large. */
  push(chunk: Uint8Array): Uint8Array[] {
    const blocks: Uint8Array[] = []
    let start = 0
    for (let at = 0; at < chunk.length; at++) {
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
