import type { ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { SharedMessages } from '../gateway/client-connection.ts'
import type { ResumableConnection } from '../gateway/resumable.ts'
import type { ResumableSession } from '../gateway/resumable-session.ts'
import { ClientFrame, type ClientWelcome, encodeChannelMessage } from '../protocol/client-frames.ts'
import { formatPosition, type Position } from '../protocol/position.ts'
import { encodeEvent } from '../protocol/sse.ts'
import type { ClientPace, Paced } from './admission/client-pace.ts'
import type { Watch, WatchListener } from './identity/watch.ts'
import { V1Conversation, type V1Options, type V1Wire } from './v1-conversation.ts'

/** A response on which `evenkeel.v1` is spoken: one event for each frame. */
export class TunnelConnection implements ResumableConnection, V1Wire, WatchListener, Paced {
  readonly transport = 'websocket'
  session: ResumableSession | null = null
  /** A request with frames is under way. */
  posting = false
  /** null: the client may send as fast as it likes. */
  pace: ClientPace | null = null
  /** Who the client is, and until when; null: nobody asks. */
  watch: Watch | null = null
  private readonly response: ServerResponse
  private readonly conversation: V1Conversation
  private heldBackMs = 0
  private paused: PromiseWithResolvers<void> | null = null

  constructor(response: ServerResponse, options: V1Options) {
    this.response = response
    this.conversation = new V1Conversation(this, options)
    response.on('drain', () => {
      this.session?.connectionDrained()
      this.conversation.drained()
    })
  }

  get isOpen(): boolean {
    return !this.response.writableEnded && !this.response.destroyed
  }

  get closed(): boolean {
    return !this.isOpen
  }

  get pendingBytes(): number {
    return this.response.writableLength
  }

  /** Tells the client where its frames go. */
  begin(id: string): void {
    this.response.write(encodeEvent(id, { event: 'open' }))
  }

  comment(text: string): void {
    if (this.isOpen) this.response.write(text)
  }

  received(data: Buffer, text: boolean): void {
    if (this.pace !== null && data[0] !== ClientFrame.count && !this.pace.takes(this)) return
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
    shared.encoded.tunnel ??= encodeChannelEvents(shared)
    this.response.write(shared.encoded.tunnel)
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
    // What waited for the end of the turn may come after that of the stream: to write then would be an error that nobody hears.
    if (this.isOpen) this.response.write(encodeFrame(frame.toString()))
  }

  keepsUp(): boolean {
    return !this.response.writableNeedDrain
  }

  /** The next request waits for the answer to this one. */
  pause(): void {
    this.paused ??= Promise.withResolvers()
  }

  resume(): void {
    this.paused?.resolve()
    this.paused = null
  }

  holdBack(ms: number): void {
    this.heldBackMs = Math.max(this.heldBackMs, ms)
  }

  async mayGoOn(): Promise<void> {
    const ms = this.heldBackMs
    this.heldBackMs = 0
    if (ms > 0) await delay(ms, undefined, { ref: false })
    await this.paused?.promise
  }

  close(code: number, reason: string): void {
    if (!this.isOpen) return
    this.conversation.closing()
    this.response.end(encodeEvent(JSON.stringify({ code, reason }), { event: 'close' }))
    this.resume()
  }

  refresh(token: string): void {
    void this.watch?.refreshOrEnd(token)
  }

  ask(): void {
    this.conversation.askForToken()
  }

  /** The client is nobody any more: what it still sends is not taken. */
  over(code: number, reason: string): void {
    this.session?.closeClient(code, reason)
    this.close(code, reason)
  }

  /** The client is gone, or says that it goes. */
  ended(code: number, reason: string): void {
    this.watch?.stop()
    this.resume()
    this.conversation.closed()
    this.session?.connectionClosed(this, code, reason)
    this.session = null
    this.response.end()
  }

  private write(type: number, batch: Buffer, start: number, end: number, text: boolean): boolean {
    if (!this.isOpen) return true
    const head = String.fromCharCode(type)
    this.response.write(
      text
        ? encodeFrame(head + batch.toString('utf8', start, end))
        : encodeFrame(Buffer.concat([Buffer.from(head), batch.subarray(start, end)])),
    )
    return this.keepsUp()
  }
}

/** Text as a JSON string, since a `data` line cannot hold every line ending. */
function encodeFrame(frame: string | Uint8Array): string {
  return typeof frame === 'string'
    ? encodeEvent(JSON.stringify(frame))
    : encodeEvent(Buffer.from(frame).toString('base64'), { event: 'binary' })
}

function encodeChannelEvents({ channel, messages }: SharedMessages): string {
  return messages
    .map(({ payload, text, position }) => {
      const place = position === null ? null : formatPosition(position)
      const data = text ? payload.toString() : payload
      return encodeFrame(encodeChannelMessage({ channel, position: place, data }))
    })
    .join('')
}
