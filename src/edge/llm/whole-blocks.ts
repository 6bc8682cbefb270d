const lf = 0x0a
const cr = 0x0d
/** A boundary that two pieces share is within so many bytes on either side. */
const seam = 3

/** Lets bytes of an event stream through up to the last block that is complete, so that the stream can end at any time between two blocks. */
export class WholeBlocks {
  private readonly maxBytes: number
  private pieces: Buffer[] = []
  private bytes = 0

  /** `maxBytes`: the largest block that is waited for. */
  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }

  /** As servers mostly write: whole events, which may go on as they are. */
  isWhole(buffer: Buffer, from: number, to: number): boolean {
    return this.bytes === 0 && to - from > 1 && buffer[to - 1] === lf && buffer[to - 2] === lf
  }

  /** What may go on, as valid as the chunk is; null: nothing yet. Throws RangeError when a block is too large. */
  push(chunk: Buffer): Buffer | null {
    const at = this.lastBoundary(chunk)
    if (at === -1) {
      this.keep(chunk)
      return null
    }
    const whole =
      this.bytes === 0 ? chunk.subarray(0, at) : Buffer.concat([...this.pieces, chunk.subarray(0, at)])
    this.pieces = []
    this.bytes = 0
    if (at < chunk.length) this.keep(chunk.subarray(at))
    return whole
  }

  /** What has come of a block that is not complete. */
  rest(): Buffer {
    return Buffer.concat(this.pieces)
  }

  private keep(piece: Buffer): void {
    this.bytes += piece.length
    if (this.bytes > this.maxBytes) throw new RangeError(`an event has more than ${this.maxBytes} bytes`)
    this.pieces.push(Buffer.from(piece))
  }

  /** Where the last block of the chunk ends; -1: none does. */
  private lastBoundary(chunk: Buffer): number {
    for (let at = chunk.length; at > seam; at--) if (isBoundary(chunk, at)) return at
    if (this.bytes === 0) {
      for (let at = Math.min(seam, chunk.length); at > 1; at--) if (isBoundary(chunk, at)) return at
      return -1
    }
    const head = chunk.subarray(0, seam)
    const before = this.pieces.slice(-seam).map((piece) => piece.subarray(-seam))
    const joint = Buffer.concat([...before, head])
    for (let at = head.length; at > 0; at--) if (isBoundary(joint, joint.length - head.length + at)) return at
    return -1
  }
}

/** Whether an empty line ends right before `at`. */
export function isBoundary(bytes: Buffer, at: number): boolean {
  const last = bytes[at - 1]
  if (last === lf) return bytes[at - 2] === lf || (bytes[at - 2] === cr && bytes[at - 3] === lf)
  return last === cr && bytes[at - 2] === cr
}
