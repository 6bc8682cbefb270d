import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** Room for the size of a chunk in front of it: 8 digits and CR LF. */
const sizeBytes = 10
const endBytes = 2
/** What one read of another socket brings, and more. */
const slabBytes = 72 * 1024
const nothing = Buffer.alloc(0)
const cr = 0x0d
const lf = 0x0a

/** Where chunks are made that the kernel takes at once, and who is making one: it can be used again when the write has returned. */
let slab = Buffer.allocUnsafeSlow(slabBytes)
let slabUser: BodyWriter | null = null

/**
 * Writes the body of an answer whose head was sent. All that comes in one turn leaves as one hand-made chunk, straight to the socket:
 * `response.write` makes three writes of each piece, which cost more than all else that is done for a token.
 */
export class BodyWriter {
  private readonly response: ServerResponse
  private readonly coalesceMs: number
  /** null: it is not known yet whether what is written would be in its turn. */
  private socket: Socket | null = null
  /** The kernel may not have taken all that the socket has. */
  private lags = true
  private isChunked = false
  /** A chunk that is being made (RFC 9112 §7.1). */
  private chunk: Buffer | null = null
  private end = sizeBytes
  private wroteAt = Number.NEGATIVE_INFINITY
  private timer: NodeJS.Timeout | null = null
  private over = false

  /** `coalesceMs`: what comes within so long of a write waits and leaves as one; 0: nothing waits. */
  constructor(response: ServerResponse, coalesceMs: number) {
    this.response = response
    this.coalesceMs = coalesceMs
  }

  /** What the client's socket has not taken. */
  get unsent(): number {
    return this.end - sizeBytes + (this.lags ? (this.socket ?? this.response).writableLength : 0)
  }

  /** Copies the bytes. */
  write(bytes: Buffer, from = 0, to = bytes.length): void {
    if (this.over || from === to) return
    const end = this.end + (to - from)
    const least = end + endBytes
    if (this.chunk === null) this.chunk = this.begin(least)
    else if (least > this.chunk.length) this.keep(Math.max(least, 2 * this.chunk.length))
    bytes.copy(this.chunk!, this.end, from, to)
    this.end = end
  }

  /** What was written is all that there is for now. */
  turned(): void {
    if (this.chunk === null || this.timer !== null) return
    if (this.coalesceMs > 0) {
      const now = performance.now()
      const waitMs = this.wroteAt + this.coalesceMs - now
      if (waitMs > 0) {
        if (slabUser === this) this.keep(2 * this.end)
        this.timer = setTimeout(this.flush, waitMs)
        return
      }
      this.wroteAt = now
    }
    this.send()
  }

  /** Calls back when the client's socket has taken all that was written so far; never when it has gone. */
  whenSent(done: () => void): void {
    this.flush()
    if (this.over) return
    ;(this.socket ?? this.response).write(nothing, (error) => {
      if (!error) done()
    })
  }

  finish(): void {
    if (this.over) return
    this.flush()
    this.over = true
    this.response.end()
  }

  /** The client has gone. */
  discard(): void {
    this.over = true
    if (this.timer !== null) clearTimeout(this.timer)
    this.chunk = null
    if (slabUser === this) slabUser = null
  }

  readonly flush = (): void => {
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    if (this.coalesceMs > 0) this.wroteAt = performance.now()
    this.send()
  }

  private send(): void {
    const { chunk, end, response } = this
    if (chunk === null || this.over) return
    this.chunk = null
    this.end = sizeBytes
    if (this.socket === null) {
      this.socket = ownSocket(response)
      this.isChunked = response.chunkedEncoding
    }
    const { socket } = this
    if (socket === null) {
      response.write(chunk.subarray(sizeBytes, end))
      return
    }
    if (!this.isChunked) socket.write(chunk.subarray(sizeBytes, end))
    else {
      chunk[end] = cr
      chunk[end + 1] = lf
      socket.write(chunk.subarray(writeSize(chunk, end - sizeBytes), end + endBytes))
    }
    this.lags = socket.writableLength > 0
    if (slabUser !== this) return
    slabUser = null
    if (this.lags) slab = Buffer.allocUnsafeSlow(slabBytes)
  }

  private begin(least: number): Buffer {
    const { socket } = this
    // The first piece that has to wait takes a buffer of its own, as what TLS encrypts does.
    const isTaken = socket !== null && !this.lags && !('encrypted' in socket)
    if (!isTaken || least > slabBytes) return Buffer.allocUnsafe(least)
    slabUser?.keep(2 * slabUser.end)
    slabUser = this
    return slab
  }

  /** Goes on in a buffer of its own, which is so large. */
  private keep(bytes: number): void {
    const own = Buffer.allocUnsafe(bytes)
    this.chunk!.copy(own, sizeBytes, sizeBytes, this.end)
    this.chunk = own
    if (slabUser === this) slabUser = null
  }
}

/** Writes the size in front of the chunk. Returns where it begins. */
function writeSize(chunk: Buffer, size: number): number {
  let at = sizeBytes
  chunk[--at] = lf
  chunk[--at] = cr
  for (let left = size; left > 0; left = Math.floor(left / 16)) {
    const digit = left % 16
    chunk[--at] = digit < 10 ? 0x30 + digit : 0x57 + digit
  }
  return at
}

/** null: what was written before has not gone out yet, because of an earlier answer on the same connection. */
function ownSocket(response: ServerResponse): Socket | null {
  const { socket } = response
  return socket !== null && response.writableLength === socket.writableLength ? socket : null
}
