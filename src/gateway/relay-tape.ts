import { endOfEvent } from '../core/sse/raw-events.ts'

const leastBytes = 2 * 1024
const mostBytes = 256 * 1024
/** A block that is used again is no larger. */
const reusedBytes = 16 * 1024
const nothing = Buffer.alloc(0)

/**
 * The end of a stream: bytes that came and were not taken yet. They are copied once, into blocks that whoever takes them may keep: small buffers that
 * live for longer than a turn cost the collection of garbage more than their copies do.
 */
export class RelayTape {
  private block: Buffer = nothing
  private before: Buffer = nothing
  /** Bytes that were taken so far. */
  private taken = 0
  private start = 0
  private end = 0
  /** Up to where it is known what is a whole event, and where the last one of those ends; from `start` on. */
  private seenBytes = 0
  private wholeBytes = 0
  private wholeEvents = 0

  /** Bytes that wait. */
  get length(): number {
    return this.end - this.start
  }

  /** Whole blocks. */
  add(buffer: Buffer, from: number, to: number): void {
    const end = this.end + to - from
    if (end > this.block.length) this.turnOver(to - from)
    buffer.copy(this.block, this.end, from, to)
    this.end += to - from
  }

  /** Whole events that wait. */
  count(): number {
    const { block, start, end } = this
    for (let from = start + this.seenBytes; from < end; ) {
      const at = endOfEvent(block, from, end)
      if (at === -1) break
      this.wholeEvents++
      this.wholeBytes = at - start
      from = at
    }
    this.seenBytes = end - start
    return this.wholeEvents
  }

  /** Bytes behind the last whole event. */
  get restBytes(): number {
    return this.length - this.wholeBytes
  }

  /** Nothing follows: what has come is an event, as far as it goes. */
  close(): void {
    this.count()
    if (this.restBytes === 0) return
    this.wholeEvents++
    this.wholeBytes = this.length
  }

  /** Whole events, at least one if there is one and otherwise up to so many bytes. */
  take(bytesMost: number): { count: number; bytes: Buffer } {
    let count = this.count()
    let length = this.wholeBytes
    if (length > bytesMost) [count, length] = this.some(bytesMost)
    const { block, start } = this
    this.start += length
    this.taken += length
    this.seenBytes -= length
    this.wholeBytes -= length
    this.wholeEvents -= count
    return { count, bytes: block.subarray(start, start + length) }
  }

  /** Nobody has kept what was taken. */
  reuse(): void {
    if (this.start < this.end) return
    this.start = 0
    this.end = 0
    if (this.block.length > reusedBytes) this.block = nothing
  }

  /** The newest bytes, taken or not, unless they were reused: with the last piece as a whole. */
  newest(): Buffer[] {
    return [this.before, this.block.subarray(0, this.end)]
  }

  free(): void {
    this.block = nothing
    this.before = nothing
    this.start = 0
    this.end = 0
  }

  private some(bytesMost: number): [count: number, length: number] {
    const { block, start, wholeBytes } = this
    const most = start + wholeBytes
    let count = 0
    let to = start
    while (to < most) {
      const at = endOfEvent(block, to, most)
      const end = at === -1 ? most : at
      if (count > 0 && end - start > bytesMost) break
      count++
      to = end
    }
    return [count, to - start]
  }

  private turnOver(more: number): void {
    const { block, start, end, length } = this
    // No more than a third of what is kept stays empty.
    const wanted = Math.min(mostBytes, Math.max(leastBytes, Math.floor(this.taken / 2)))
    const next = Buffer.allocUnsafeSlow(Math.max(length + more, wanted))
    block.copy(next, 0, start, end)
    this.before = block.subarray(0, start)
    this.block = next
    this.start = 0
    this.end = length
  }
}
