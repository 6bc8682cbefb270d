import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Turn } from '../gateway/turn.ts'

/** A message up to this size is copied next to its header; a larger one is written from where it is. */
const copiedBytes = 8 * 1024
const slabBytes = 64 * 1024

/** What one socket gets in this turn: pieces, of which the first is usually the only one. */
export class Outgoing {
  readonly socket: Socket
  /** TLS refers to what it was given until later: to copy that costs less than another slab each turn. */
  readonly copies: boolean
  private pieces: Buffer[] = []
  private slab: Buffer | null = null
  private start = 0
  private end = 0

  constructor(socket: Socket) {
    this.socket = socket
    this.copies = (socket as TLSSocket).encrypted === true
  }

  get waiting(): boolean {
    return this.end > 0 || this.pieces.length > 0
  }

  get bytes(): number {
    return this.end - this.start + this.pieces.reduce((sum, piece) => sum + piece.length, 0)
  }

  /** Bytes of a slab; those that follow the last ones make one piece with them. */
  extend(slab: Buffer, start: number, end: number): void {
    if (this.slab !== slab || this.end !== start) {
      this.close()
      this.slab = slab
      this.start = start
    }
    this.end = end
  }

  append(piece: Buffer): void {
    this.close()
    this.pieces.push(piece)
  }

  /** Writes all of it at once. */
  flush(): void {
    const { socket } = this
    if (this.pieces.length === 0) {
      const only = this.part(this.slab!)
      this.slab = null
      this.start = 0
      this.end = 0
      socket.write(only)
      return
    }
    this.close()
    const { pieces } = this
    this.pieces = []
    socket.cork()
    for (const piece of pieces) socket.write(piece)
    socket.uncork()
  }

  private close(): void {
    if (this.slab !== null && this.end > this.start) this.pieces.push(this.part(this.slab))
    this.slab = null
    this.start = 0
    this.end = 0
  }

  private part(slab: Buffer): Buffer {
    const part = slab.subarray(this.start, this.end)
    return this.copies ? Buffer.from(part) : part
  }
}

/**
 * Collects what clients get during one event-loop turn and writes it at its end, one write for each client.
 * Frames are made in one slab, which is used again when the kernel has taken everything.
 */
export class TurnWriter {
  private slab = Buffer.allocUnsafeSlow(slabBytes)
  private used = 0
  private dirty: Outgoing[] = []
  private readonly turn: Turn

  constructor(turn: Turn) {
    this.turn = turn
  }

  /**
   * Adds one message to what `out` gets: `header` from `headerStart` on, then the payload.
   */
  write(
    out: Outgoing,
    header: Buffer,
    headerStart: number,
    payload: Buffer,
    start: number,
    end: number,
  ): void {
    this.touch(out)
    const bytes = end - start
    const headerBytes = header.length - headerStart
    const needed = headerBytes + (bytes <= copiedBytes ? bytes : 0)
    if (this.used + needed > this.slab.length) {
      this.slab = Buffer.allocUnsafeSlow(slabBytes)
      this.used = 0
    }
    const { slab, used } = this
    for (let i = 0; i < headerBytes; i++) slab[used + i] = header[headerStart + i]!
    if (bytes <= copiedBytes) payload.copy(slab, used + headerBytes, start, end)
    this.used += needed
    out.extend(slab, used, this.used)
    if (bytes > copiedBytes) out.append(payload.subarray(start, end))
  }

  /** Adds bytes that several sockets get: they are written from where they are. */
  append(out: Outgoing, piece: Buffer): void {
    this.touch(out)
    out.append(piece)
  }

  private touch(out: Outgoing): void {
    if (out.waiting) return
    if (this.dirty.length === 0) this.turn.write(this.flush)
    this.dirty.push(out)
  }

  private readonly flush = (): void => {
    const { dirty } = this
    this.dirty = []
    let taken = true
    for (const out of dirty) {
      if (out.waiting) out.flush()
      // One that was flushed before the end of the turn may still refer to the slab too.
      if (!out.copies && out.socket.writableLength > 0) taken = false
    }
    if (!taken) this.slab = Buffer.allocUnsafeSlow(slabBytes)
    this.used = 0
  }
}
