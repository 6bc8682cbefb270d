import { isBoundary } from './whole-blocks.ts'

const keptBytes = 4 * 1024
/** Of a large piece: where its last block begins, and its end. */
const partBytes = 1024

/** The newest bytes of a stream, in which the mark of its end is looked for. Behind that come at most a count of tokens and the like. */
export class Ending {
  private bytes: Buffer | null = null
  private length = 0

  add(buffer: Buffer, from = 0, to = buffer.length): void {
    if (to - from <= 2 * partBytes) {
      this.append(buffer, from, to)
      return
    }
    const piece = buffer.subarray(from, to)
    // The last event may be as large as the whole answer, and says at its beginning what it is.
    const start = lastStart(piece, piece.length)
    const middle = Math.min(start + partBytes, piece.length)
    this.append(piece, start, middle)
    this.append(piece, Math.max(middle, piece.length - partBytes), piece.length)
  }

  /** Of whole events that are kept anyway: the newest of them, as if they had been added one by one. */
  addNewest(events: Buffer): void {
    const parts: Buffer[] = []
    let size = 0
    for (let end = events.length; end > 0 && size < keptBytes; ) {
      const start = lastStart(events, end)
      parts.push(events.subarray(start, end))
      size += Math.min(2 * partBytes, end - start)
      end = start
    }
    for (const part of parts.reverse()) this.add(part)
  }

  toString(): string {
    return this.bytes === null ? '' : this.bytes.toString('utf8', 0, this.length)
  }

  private append(buffer: Buffer, from: number, to: number): void {
    this.bytes ??= Buffer.allocUnsafeSlow(2 * keptBytes)
    if (this.length + to - from > this.bytes.length) {
      this.bytes.copyWithin(0, this.length - keptBytes, this.length)
      this.length = keptBytes
    }
    buffer.copy(this.bytes, this.length, from, to)
    this.length += to - from
  }
}

/** Where the last event begins of those that end there. */
function lastStart(events: Buffer, end: number): number {
  for (let at = end - 1; at > 1; at--) if (isBoundary(events, at)) return at
  return 0
}
