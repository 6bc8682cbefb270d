import type { Socket as EngineSocket } from 'engine.io'
import type { WebSocket } from 'ws'
import type { ClientConnection, EncodedPacket, SharedMessages } from '../gateway/client-connection.ts'
import type { Session } from '../gateway/session.ts'
import type { Turn } from '../gateway/turn.ts'
import { CloseCode, clipCloseReason } from '../protocol/close-codes.ts'
import type { Limits } from '../protocol/limits.ts'
import { frameHeaderBytesMax, Opcode, writeFrameHeader } from '../protocol/websocket-frame.ts'

/** Above this much that the client has not taken, it counts as slow. */
const highWaterBytes = 64 * 1024
/** A polling client cannot be stopped from sending; one that sends this many times what a session may keep is closed. */
const unreadWindows = 4

/** What a connection needs of its gateway. */
export interface EngineConnectionHost {
  readonly limits: Readonly<Limits>
  readonly turn: Turn
}

/** What engine.io does not declare as public and socket.io uses all the same. */
interface EngineView {
  transport: { writable: boolean }
  writeBuffer: readonly unknown[]
}

interface Piece {
  readonly data: string | Buffer
  readonly options: { wsPreEncodedFrame?: readonly Buffer[] }
  readonly taken: (() => void) | undefined
}

/** One client's Engine.IO socket, whatever its transport is at the moment. */
export abstract class EngineConnection implements ClientConnection {
  abstract readonly transport: 'socket.io' | 'engine.io'
  session!: Session
  pendingBytes = 0
  protected readonly socket: EngineSocket
  private readonly turn: Turn
  private readonly unreadBytes: number
  /** For a client that polls: what leaves at the end of the turn. */
  private waiting: Piece[] = []
  private slow = false
  private paused = false

  constructor(socket: EngineSocket, { limits, turn }: EngineConnectionHost) {
    this.socket = socket
    this.turn = turn
    this.unreadBytes = limits.inboxBytes * unreadWindows
  }

  abstract deliver(batch: Buffer, start: number, end: number, text: boolean): boolean

  abstract deliverShared(shared: SharedMessages): void

  /** A message of the client. */
  protected abstract received(piece: string | Buffer): void

  /** The client has gone from polling to WebSocket. */
  protected upgraded(_transport: string): void {}

  /** To be called when the connection has its session. */
  begin(): void {
    const { socket } = this
    // A message without anything in it comes as undefined.
    socket.on('data', (piece: string | Buffer | undefined) => {
      this.received(piece ?? '')
      if (this.session.inbox.bytes > this.unreadBytes) this.close()
    })
    socket.on('upgrade', () => {
      if (this.paused) this.websocket?.pause()
      this.upgraded(socket.transport.name)
    })
    socket.on('close', (reason: string) =>
      this.session.connectionClosed(this, CloseCode.abnormal, clipCloseReason(reason)),
    )
  }

  takesVolatile(): boolean {
    const { transport, writeBuffer } = this.socket as unknown as EngineView
    const socket = this.websocket
    if (socket !== null) return socket.bufferedAmount === 0
    return transport.writable && writeBuffer.length === 0 && this.waiting.length === 0
  }

  keepsUp(): boolean {
    if (this.pendingBytes <= highWaterBytes) return true
    this.slow = true
    return false
  }

  pause(): void {
    this.paused = true
    this.websocket?.pause()
  }

  resume(): void {
    this.paused = false
    this.websocket?.resume()
  }

  close(): void {
    this.flush()
    // A paused socket would never read the client's answer.
    this.resume()
    this.socket.close()
  }

  terminate(): void {
    this.socket.close(true)
  }

  /** Pieces of one message, or several messages. `frame` is the first piece as a WebSocket frame. */
  protected write(
    pieces: readonly (string | Buffer)[],
    bytes: number,
    frame: readonly Buffer[] | null = null,
  ): void {
    this.pendingBytes += bytes
    const taken = () => {
      this.pendingBytes -= bytes
      if (!this.slow || this.pendingBytes > highWaterBytes / 2) return
      this.slow = false
      this.session.connectionDrained()
    }
    const last = pieces.length - 1
    const options = frame === null ? {} : { wsPreEncodedFrame: frame }
    pieces.forEach((data, i) => {
      this.writePiece({ data, options, taken: i === last ? taken : undefined })
    })
  }

  private get websocket(): WebSocket | null {
    const { transport } = this.socket
    return transport.name === 'websocket' ? (transport as unknown as { socket: WebSocket }).socket : null
  }

  private writePiece(piece: Piece): void {
    if (this.websocket === null) {
      if (this.waiting.length === 0) this.turn.write(this.flush)
      this.waiting.push(piece)
      return
    }
    this.flush()
    this.pass(piece)
  }

  /**
   * Engine.IO answers a poll with the first piece that it gets, and the next piece waits for the next poll. So what a turn brings
   * is given to it as one.
   */
  private readonly flush = (): void => {
    const { socket, waiting } = this
    if (waiting.length === 0) return
    this.waiting = []
    const answersPoll = this.websocket === null && (socket as unknown as EngineView).transport.writable
    if (!answersPoll) {
      for (const piece of waiting) this.pass(piece)
      return
    }
    const [first, ...rest] = waiting as [Piece, ...Piece[]]
    const add = (packets: unknown[]) => {
      for (const { data } of rest) packets.push({ type: 'message', data, options: { compress: false } })
    }
    socket.once('flush', add)
    this.pass({
      ...first,
      taken() {
        for (const { taken } of waiting) taken?.()
      },
    })
    socket.off('flush', add)
  }

  private pass({ data, options, taken }: Piece): void {
    this.socket.write(data, options as object, taken)
  }
}

/** Messages are the application's, as they are. */
export class PlainEngineConnection extends EngineConnection {
  readonly transport = 'engine.io'

  deliver(batch: Buffer, start: number, end: number, text: boolean): boolean {
    const piece = text ? batch.toString('utf8', start, end) : batch.subarray(start, end)
    this.write([piece], end - start)
    return this.keepsUp()
  }

  deliverShared(shared: SharedMessages): void {
    shared.encoded.engineIo ??= shared.messages.map(({ payload, text }) =>
      text ? encodeText(payload) : { pieces: [payload], bytes: payload.length, frame: null },
    )
    for (const { pieces, bytes, frame } of shared.encoded.engineIo) this.write(pieces, bytes, frame)
  }

  protected received(piece: string | Buffer): void {
    const text = typeof piece === 'string'
    this.session.receive(text ? Buffer.from(piece) : piece, text)
  }
}

/** What Engine.IO puts before a text message. */
const engineMessage = Buffer.from('4')

export function encodeText(payload: Buffer): EncodedPacket {
  const header = Buffer.alloc(frameHeaderBytesMax)
  const headerStart = writeFrameHeader(header, header.length, 1 + payload.length, Opcode.text, false)
  const frame = Buffer.concat([header.subarray(headerStart), engineMessage, payload])
  return { pieces: [payload.toString()], bytes: payload.length, frame: [frame] }
}
