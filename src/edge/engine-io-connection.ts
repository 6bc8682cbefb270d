import type { Socket } from 'node:net'
import type { Socket as EngineSocket } from 'engine.io'
import type { WebSocket } from 'ws'
import type { ClientConnection, EncodedPacket, SharedMessages } from '../gateway/client-connection.ts'
import type { Session } from '../gateway/session.ts'
import type { Turn } from '../gateway/turn.ts'
import { CloseCode, clipCloseReason } from '../protocol/close-codes.ts'
import type { Limits } from '../protocol/limits.ts'
import type { ClientPace, Paced } from './admission/client-pace.ts'
import { encodeMessage, writeMessage } from './engine-io-frames.ts'
import { Outgoing, type TurnWriter } from './turn-writer.ts'

/** Above this much that the client has not taken, it counts as slow. */
const highWaterBytes = 64 * 1024
/** A polling client cannot be stopped from sending; one that sends this many times what a session may keep is closed. */
const unreadWindows = 4

/** What a connection needs of its gateway. */
export interface EngineConnectionHost {
  readonly limits: Readonly<Limits>
  readonly turn: Turn
  readonly writer: TurnWriter
}

/** What engine.io does not declare as public and socket.io uses all the same. */
interface EngineView {
  readyState: string
  transport: { writable: boolean }
  writeBuffer: readonly unknown[]
}

/** What `ws` does not declare as public and engine.io writes to as well. */
type WebSocketView = WebSocket & { _socket: Socket | null }

interface Piece {
  readonly data: string | Buffer
  readonly taken: (() => void) | undefined
}

/**
 * One client's Engine.IO socket, whatever its transport is at the moment. What goes by WebSocket is written past engine.io: one
 * write for each client and turn, where engine.io makes two pieces and several events of each message.
 */
export abstract class EngineConnection implements ClientConnection, Paced {
  abstract readonly transport: 'socket.io' | 'engine.io'
  session!: Session
  /** null: the client may send as fast as it likes. */
  pace: ClientPace | null = null
  protected readonly socket: EngineSocket
  protected readonly writer: TurnWriter
  /** Past engine.io; null before the transport is a WebSocket. */
  private out: Outgoing | null = null
  /** What engine.io has not written. */
  private queuedBytes = 0
  private readonly turn: Turn
  private readonly unreadBytes: number
  private readonly unreadMessages: number
  /** For a client that polls: what leaves at the end of the turn. */
  private waiting: Piece[] = []
  private slow = false
  private awaitsDrain = false
  private paused = false
  /** Its client sends too fast, and is not read until then. */
  private heldBack: NodeJS.Timeout | null = null

  constructor(socket: EngineSocket, { limits, turn, writer }: EngineConnectionHost) {
    this.socket = socket
    this.turn = turn
    this.writer = writer
    this.unreadBytes = limits.inboxBytes * unreadWindows
    this.unreadMessages = Math.max(limits.pollPackets, limits.inboxMessages * unreadWindows)
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
      if (this.pace !== null && !this.pace.takes(this)) return
      this.received(piece ?? '')
      const { bytes, length } = this.session.inbox
      if (bytes > this.unreadBytes || length > this.unreadMessages) this.close()
    })
    socket.on('upgrade', () => {
      if (this.paused || this.heldBack !== null) this.websocket?.pause()
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

  get pendingBytes(): number {
    const { out } = this
    return this.queuedBytes + (out === null ? 0 : out.socket.writableLength + out.bytes)
  }

  keepsUp(): boolean {
    if (this.queuedBytes > highWaterBytes) {
      this.slow = true
      return false
    }
    const socket = this.out?.socket
    if (socket?.writableNeedDrain !== true) return true
    if (!this.awaitsDrain) {
      this.awaitsDrain = true
      socket.once('drain', () => {
        this.awaitsDrain = false
        this.session.connectionDrained()
      })
    }
    return false
  }

  pause(): void {
    this.paused = true
    this.websocket?.pause()
  }

  resume(): void {
    this.paused = false
    if (this.heldBack === null) this.websocket?.resume()
  }

  holdBack(ms: number): void {
    if (this.heldBack !== null) clearTimeout(this.heldBack)
    else this.websocket?.pause()
    this.heldBack = setTimeout(() => {
      this.heldBack = null
      if (!this.paused) this.websocket?.resume()
    }, ms).unref()
  }

  close(): void {
    this.flush()
    if (this.out?.waiting) this.out.flush()
    // A paused socket would never read the client's answer.
    if (this.heldBack !== null) clearTimeout(this.heldBack)
    this.heldBack = null
    this.resume()
    this.socket.close()
  }

  terminate(): void {
    this.socket.close(true)
  }

  /** Where to write past engine.io; null while the client polls, or engine.io still has something for it. */
  protected directly(): Outgoing | null {
    const websocket = this.websocket as WebSocketView | null
    if (websocket === null) return null
    this.flush()
    const { readyState, writeBuffer } = this.socket as unknown as EngineView
    if (readyState === 'open' && writeBuffer.length === 0) {
      if (this.out === null && websocket._socket) this.out = new Outgoing(websocket._socket)
      return this.out
    }
    // Nothing that goes by way of engine.io from here overtakes.
    if (this.out?.waiting) this.out.flush()
    return null
  }

  /** Pieces of one message, by way of engine.io. */
  protected write(pieces: readonly (string | Buffer)[], bytes: number): void {
    this.queuedBytes += bytes
    const taken = () => {
      this.queuedBytes -= bytes
      if (!this.slow || this.queuedBytes > highWaterBytes / 2) return
      this.slow = false
      this.session.connectionDrained()
    }
    const last = pieces.length - 1
    pieces.forEach((data, i) => {
      this.writePiece({ data, taken: i === last ? taken : undefined })
    })
  }

  protected writeShared(packets: readonly EncodedPacket[]): void {
    const out = this.directly()
    for (const { pieces, bytes, frames } of packets) {
      if (out === null) this.write(pieces, bytes)
      else this.writer.append(out, frames)
    }
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

  private pass({ data, taken }: Piece): void {
    this.socket.write(data, {}, taken)
  }
}

/** Messages are the application's, as they are. */
export class PlainEngineConnection extends EngineConnection {
  readonly transport = 'engine.io'

  deliver(batch: Buffer, start: number, end: number, text: boolean): boolean {
    const out = this.directly()
    if (out !== null) writeMessage(this.writer, out, batch, start, end, text)
    else this.write([text ? batch.toString('utf8', start, end) : batch.subarray(start, end)], end - start)
    return this.keepsUp()
  }

  deliverShared(shared: SharedMessages): void {
    shared.encoded.engineIo ??= shared.messages.map(({ payload, text }) => encodeMessage(payload, text))
    this.writeShared(shared.encoded.engineIo)
  }

  protected received(piece: string | Buffer): void {
    const text = typeof piece === 'string'
    this.session.receive(text ? Buffer.from(piece) : piece, text)
  }
}
