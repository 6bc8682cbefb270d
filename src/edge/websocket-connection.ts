import type { Socket } from 'node:net'
import { WebSocket } from 'ws'
import type { ClientConnection, SharedMessages } from '../gateway/client-connection.ts'
import type { Session } from '../gateway/session.ts'
import { CloseCode, isSendableCloseCode } from '../protocol/close-codes.ts'
import { compressedBit, frameHeaderBytesMax, Opcode, writeFrameHeader } from '../protocol/websocket-frame.ts'
import type { ClientPace, Paced } from './admission/client-pace.ts'
import type { Deflater } from './deflate.ts'
import type { Watch, WatchListener } from './identity/watch.ts'
import { cutSoon } from './last-words.ts'
import { Outgoing, type TurnWriter } from './turn-writer.ts'

/** The socket carries its connection, so that one set of listeners serves all. */
export class ClientSocket extends WebSocket {
  connection!: WebSocketConnection
  /** Compresses what it gets; null: nothing is compressed. */
  deflater: Deflater | null = null
}

/** One client's WebSocket, whatever is spoken on it. */
export abstract class WebSocketConnection implements ClientConnection, WatchListener, Paced {
  readonly transport = 'websocket'
  readonly ws: ClientSocket
  /** null before the client has a session. */
  abstract session: Session | null
  /** Ticks of the edge's clock. */
  lastSeen: number
  readonly connectedAt: number
  pinged = false
  /** null: the client may send as fast as it likes. */
  pace: ClientPace | null = null
  /** Who the client is, and until when; null: nobody asks. */
  watch: Watch | null = null
  protected readonly out: Outgoing
  protected readonly writer: TurnWriter
  private awaitsDrain = false
  private pausedBySession = false
  /** Its client sends too fast, and is not read until then. */
  private heldBack: NodeJS.Timeout | null = null

  constructor(ws: ClientSocket, socket: Socket, writer: TurnWriter, tick: number) {
    this.ws = ws
    this.out = new Outgoing(socket)
    this.writer = writer
    this.lastSeen = tick
    this.connectedAt = tick
  }

  /** A message of the client. */
  abstract received(data: Buffer, text: boolean): void

  abstract deliver(batch: Buffer, start: number, end: number, text: boolean): boolean

  abstract deliverShared(shared: SharedMessages): void

  /** It is no message of the client, whatever it looks like to the socket. */
  isUncounted(_data: Buffer): boolean {
    return false
  }

  /** The client has yet to say what it wants. */
  get awaitsHello(): boolean {
    return false
  }

  get isOpen(): boolean {
    return this.ws.readyState === WebSocket.OPEN
  }

  get pendingBytes(): number {
    return this.out.socket.writableLength + this.out.bytes
  }

  keepsUp(): boolean {
    const { socket } = this.out
    if (!socket.writableNeedDrain) return true
    if (!this.awaitsDrain) {
      this.awaitsDrain = true
      socket.once('drain', () => {
        this.awaitsDrain = false
        this.drained()
      })
    }
    return false
  }

  /** The client is nobody any more: what it still sends is not taken. */
  over(code: number, reason: string): void {
    this.session?.closeClient(code, reason)
    this.close(code, reason)
    cutSoon(this.out.socket)
  }

  /** The socket is closed. */
  ended(): void {}

  /** The socket has taken what was written. */
  protected drained(): void {
    this.session?.connectionDrained()
  }

  pause(): void {
    this.pausedBySession = true
    this.ws.pause()
  }

  resume(): void {
    this.pausedBySession = false
    if (this.heldBack === null) this.ws.resume()
  }

  holdBack(ms: number): void {
    if (this.heldBack !== null) clearTimeout(this.heldBack)
    else this.ws.pause()
    this.heldBack = setTimeout(() => {
      this.heldBack = null
      if (!this.pausedBySession) this.ws.resume()
    }, ms).unref()
  }

  close(code: number, reason: string): void {
    if (!this.isOpen) return
    if (this.out.waiting) this.out.flush()
    // A paused socket would never read the client's answer.
    this.ws.resume()
    // Who was told to stop and goes on is not read for long.
    if (code === CloseCode.tooFast) cutSoon(this.out.socket)
    if (isSendableCloseCode(code)) this.ws.close(code, reason)
    else this.ws.close()
  }
}

const header = Buffer.alloc(frameHeaderBytesMax)

/** Messages are the application's, as they are. */
export class PlainConnection extends WebSocketConnection {
  session!: Session

  received(data: Buffer, text: boolean): void {
    this.session.receive(data, text)
  }

  deliver(batch: Buffer, start: number, end: number, text: boolean): boolean {
    if (!this.isOpen) return true
    const packed = this.ws.deflater?.pack(batch.subarray(start, end)) ?? null
    if (packed === null)
      this.writer.write(this.out, header, writeHeader(end - start, text), batch, start, end)
    else this.writer.write(this.out, header, writeHeader(packed.length, text, true), packed, 0, packed.length)
    return this.keepsUp()
  }

  deliverShared(shared: SharedMessages): void {
    if (!this.isOpen) return
    const { deflater } = this.ws
    const { encoded } = shared
    if (deflater === null) encoded.websocket ??= encodeFrames(shared, null)
    else encoded.websocketDeflated ??= encodeFrames(shared, deflater)
    this.writer.append(this.out, (deflater === null ? encoded.websocket : encoded.websocketDeflated)!)
  }
}

/** Writes a header to the end of `header` and returns where it begins. */
function writeHeader(bytes: number, text: boolean, compressed = false): number {
  const opcode = text ? Opcode.text : Opcode.binary
  return writeFrameHeader(header, header.length, bytes, compressed ? opcode | compressedBit : opcode, false)
}

/** All messages in one piece: a member of the channel costs one reference and one write. */
function encodeFrames({ messages }: SharedMessages, deflater: Deflater | null): Buffer {
  const pieces: Buffer[] = []
  for (const { payload, text } of messages) {
    const packed = deflater?.pack(payload) ?? null
    const frame = packed ?? payload
    pieces.push(Buffer.from(header.subarray(writeHeader(frame.length, text, packed !== null))), frame)
  }
  return Buffer.concat(pieces)
}
