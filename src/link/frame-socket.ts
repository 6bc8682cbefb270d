import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { WebSocket } from 'ws'
import { Opcode, writeFrameHeader } from '../protocol/websocket-frame.ts'
import type { LinkSocket } from './link.ts'

/**
 * Sends link messages on a WebSocket's own socket: the header goes in front of the records, where the slab has room for it, and
 * both leave in one plain write. `ws` reads, closes and keeps the limits. It never fragments or compresses here, so its own
 * control frames fall between ours. RFC 6455 masks against hostile scripts in browsers; between two servers a zero key saves the work.
 */
export class FrameSocket implements LinkSocket {
  /** null until the upgrade. */
  socket: Socket | null
  private readonly ws: WebSocket
  private readonly masked: boolean

  /** `masked`: this is the client's end, which has to mask. */
  constructor(ws: WebSocket, socket: Socket | null, masked: boolean) {
    this.ws = ws
    this.socket = socket
    this.masked = masked
  }

  get bufferedAmount(): number {
    return this.socket?.writableLength ?? 0
  }

  /** TLS refers to what it was given until later: to copy that costs less than another slab each turn. */
  get copies(): boolean {
    return (this.socket as TLSSocket | null)?.encrypted === true
  }

  send(slab: Buffer, start: number, end: number): void {
    if (this.socket === null || this.ws.readyState !== WebSocket.OPEN) return
    const frame = writeFrameHeader(slab, start, end - start, Opcode.binary, this.masked)
    const bytes = slab.subarray(frame, end)
    this.socket.write(this.copies ? Buffer.from(bytes) : bytes)
  }

  close(code: number, reason: string): void {
    this.ws.close(code, reason)
  }

  terminate(): void {
    this.ws.terminate()
  }
}
