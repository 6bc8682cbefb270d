import type { Socket } from 'node:net'
import type { SharedMessages } from '../gateway/client-connection.ts'
import type { ResumableConnection } from '../gateway/resumable.ts'
import type { ResumableSession } from '../gateway/resumable-session.ts'
import { ClientFrame, type ClientWelcome } from '../protocol/client-frames.ts'
import { formatPosition, type Position } from '../protocol/position.ts'
import { compressedBit, frameHeaderBytesMax, Opcode, writeFrameHeader } from '../protocol/websocket-frame.ts'
import type { Deflater } from './deflate.ts'
import type { TurnWriter } from './turn-writer.ts'
import { V1Conversation, type V1Options, type V1Wire } from './v1-conversation.ts'
import { type ClientSocket, WebSocketConnection } from './websocket-connection.ts'

/** A frame's header, and behind it what kind of frame of ours it is. */
const header = Buffer.alloc(frameHeaderBytesMax + 1)

/** A WebSocket on which `evenkeel.v1` is spoken (PROTOCOL.md §2.1). */
export class ResumableWebSocketConnection extends WebSocketConnection implements ResumableConnection, V1Wire {
  session: ResumableSession | null = null
  private readonly conversation: V1Conversation

  constructor(ws: ClientSocket, socket: Socket, writer: TurnWriter, tick: number, options: V1Options) {
    super(ws, socket, writer, tick)
    this.conversation = new V1Conversation(this, options)
  }

  get closed(): boolean {
    return !this.isOpen
  }

  override get awaitsHello(): boolean {
    return this.conversation.awaitsHello
  }

  override isUncounted(data: Buffer): boolean {
    return data[0] === ClientFrame.count
  }

  received(data: Buffer, text: boolean): void {
    this.conversation.received(data, text)
  }

  deliver(batch: Buffer, start: number, end: number, text: boolean): boolean {
    return this.write(ClientFrame.message, batch, start, end, text)
  }

  deliverLate(batch: Buffer, start: number, end: number, text: boolean): void {
    this.write(ClientFrame.late, batch, start, end, text)
  }

  deliverShared(shared: SharedMessages): void {
    if (!this.isOpen) return
    const { deflater } = this.ws
    const { encoded } = shared
    if (deflater === null) encoded.resumable ??= encodeChannelFrames(shared, null)
    else encoded.resumableDeflated ??= encodeChannelFrames(shared, deflater)
    this.writer.append(this.out, (deflater === null ? encoded.resumable : encoded.resumableDeflated)!)
  }

  verdict(channel: string, verdict: 'joined' | 'continuous' | 'gap', position: Position | null): void {
    this.conversation.verdict(channel, verdict, position)
  }

  welcome(welcome: ClientWelcome): void {
    this.conversation.welcome(welcome)
  }

  acknowledge(seq: number): void {
    this.conversation.acknowledge(seq)
  }

  move(): void {
    this.conversation.move()
  }

  control(frame: Buffer): void {
    this.write(frame[0]!, frame, 1, frame.length, true)
  }

  override close(code: number, reason: string): void {
    this.conversation.closing()
    super.close(code, reason)
  }

  refresh(token: string): void {
    void this.watch?.refreshOrEnd(token)
  }

  ask(): void {
    this.conversation.askForToken()
  }

  override ended(): void {
    this.conversation.closed()
  }

  protected override drained(): void {
    super.drained()
    this.conversation.drained()
  }

  private write(type: number, payload: Buffer, start: number, end: number, text: boolean): boolean {
    if (!this.isOpen) return true
    const packed = this.packed(type, payload, start, end)
    if (packed === null)
      this.writer.write(this.out, header, writeHeader(type, end - start, text), payload, start, end)
    else this.writer.write(this.out, header, writePackedHeader(packed.length, text), packed, 0, packed.length)
    return this.keepsUp()
  }

  private packed(type: number, payload: Buffer, start: number, end: number): Buffer | null {
    const { deflater } = this.ws
    return deflater === null || !deflater.mayPack(1 + end - start)
      ? null
      : deflater.pack(Buffer.concat([Buffer.of(type), payload.subarray(start, end)]))
  }
}

/** Returns where the header begins; it ends with `header`. */
function writeHeader(type: number, bytes: number, text: boolean): number {
  header[frameHeaderBytesMax] = type
  return writeFrameHeader(header, frameHeaderBytesMax, bytes + 1, text ? Opcode.text : Opcode.binary, false)
}

/** The same, of a message that is compressed together with its kind. */
function writePackedHeader(bytes: number, text: boolean): number {
  const opcode = (text ? Opcode.text : Opcode.binary) | compressedBit
  return writeFrameHeader(header, header.length, bytes, opcode, false)
}

function encodeChannelFrames({ channel, messages }: SharedMessages, deflater: Deflater | null): Buffer {
  const pieces: Buffer[] = []
  for (const { payload, text, position } of messages) {
    const place = Buffer.from(`${channel}\n${position === null ? '' : formatPosition(position)}\n`)
    const bytes = 1 + place.length + payload.length
    const packed = deflater?.mayPack(bytes)
      ? deflater.pack(Buffer.concat([Buffer.of(ClientFrame.channel), place, payload]))
      : null
    if (packed === null) {
      const headerStart = writeHeader(ClientFrame.channel, bytes - 1, text)
      pieces.push(Buffer.from(header.subarray(headerStart)), place, payload)
    } else pieces.push(Buffer.from(header.subarray(writePackedHeader(packed.length, text))), packed)
  }
  return Buffer.concat(pieces)
}
