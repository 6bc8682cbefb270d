import type { Socket } from 'node:net'
import { type RawData, WebSocket } from 'ws'
import type { UpstreamConnection, UpstreamListener } from '../../gateway/upstream-connection.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { CloseCode, clipCloseReason, isSendableCloseCode } from '../../protocol/close-codes.ts'
import type { Limits } from '../../protocol/limits.ts'

/** An upstream that does not answer a close frame is cut after this time. */
const closeMs = 2_000
/** It has said what it had to say when it has been silent for this long … */
const quietMs = 20
/** … or has gone on for this long: some never stop. */
const settleMs = 500

/** A session's WebSocket to its upstream. */
export class UpstreamWebSocket implements UpstreamConnection {
  private readonly ws: WebSocket
  private readonly socket: Socket
  private readonly entry: UpstreamEntry
  private readonly limits: Readonly<Limits>
  private listener: UpstreamListener | null
  private closing: NodeJS.Timeout | null = null
  private lastMessageAt = 0
  private settling: ((pong: string) => void) | null = null
  private settles = 0
  private silentMs = 0
  private tooBig = false
  private seenBytes = 0

  constructor(
    ws: WebSocket,
    socket: Socket,
    entry: UpstreamEntry,
    listener: UpstreamListener,
    limits: Readonly<Limits>,
  ) {
    this.ws = ws
    this.socket = socket
    this.entry = entry
    this.listener = listener
    this.limits = limits
    ws.pause()
    ws.on('message', (data: RawData, isBinary: boolean) => {
      this.lastMessageAt = performance.now()
      this.listener?.message(data as Buffer, !isBinary)
    })
    ws.on('pong', (data) => this.settling?.(data.toString()))
    ws.on('close', (code, reason) => this.ended(code, reason.toString()))
    ws.on('error', ({ code }: NodeJS.ErrnoException) => {
      this.tooBig = code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH'
    })
    socket.on('drain', () => this.listener?.drained())
  }

  private get isOpen(): boolean {
    return this.ws.readyState === WebSocket.OPEN
  }

  /** Called when it has ended, whoever ended it. */
  onEnd: () => void = () => {}

  get congested(): boolean {
    return this.ws.bufferedAmount > this.limits.clientBufferBytes
  }

  send(payload: Buffer, text: boolean): void {
    if (this.isOpen) this.ws.send(payload, { binary: !text })
  }

  pause(): void {
    if (this.closing === null) this.ws.pause()
  }

  resume(): void {
    this.ws.resume()
  }

  /** To be called every `elapsedMs`: pings an upstream that is silent, and drops one that stays so. */
  watch(elapsedMs: number, pingMs: number, pongMs: number): void {
    const { bytesRead } = this.socket
    // Who is not read cannot be heard.
    const heard = bytesRead !== this.seenBytes || this.ws.isPaused
    const before = this.silentMs
    this.seenBytes = bytesRead
    this.silentMs = heard ? 0 : before + elapsedMs
    if (this.silentMs >= pingMs + pongMs) this.ws.terminate()
    else if (this.silentMs >= pingMs && before < pingMs && this.isOpen) this.ws.ping()
  }

  settle(done: () => void): void {
    const ping = String(++this.settles)
    // A pong says that the messages before its ping were read; what is answered later is given a moment.
    this.settling = (pong) => {
      if (pong !== ping) return
      this.settling = null
      this.waitForQuiet(performance.now(), done)
    }
    if (this.isOpen) this.ws.ping(ping)
  }

  private waitForQuiet(since: number, done: () => void): void {
    const now = performance.now()
    const quietIn = Math.max(this.lastMessageAt, since) + quietMs - now
    const left = Math.min(quietIn, since + settleMs - now)
    if (left <= 0) done()
    else setTimeout(() => this.waitForQuiet(since, done), left)
  }

  close(code: number, reason: string): void {
    if (this.closing !== null || this.listener === null) return
    this.closing = setTimeout(() => this.ws.terminate(), closeMs)
    // A paused socket would never read the answer.
    this.ws.resume()
    if (isSendableCloseCode(code)) this.ws.close(code, clipCloseReason(reason))
    else if (code === CloseCode.noStatus) this.ws.close()
    // A client that went without a word: its last messages arrive, and then the upstream sees the same.
    else this.socket.end()
  }

  terminate(): void {
    this.listener = null
    this.ws.terminate()
  }

  private ended(code: number, reason: string): void {
    if (this.closing !== null) clearTimeout(this.closing)
    else if (this.tooBig) this.entry.report('error-response')
    else if (code === CloseCode.abnormal && this.listener !== null) this.entry.report('broken')
    const { listener } = this
    this.listener = null
    this.onEnd()
    // Another upstream would be no better.
    if (this.tooBig) listener?.closed(CloseCode.tooBig, 'a message of the server is too large')
    else listener?.closed(code, reason)
  }
}
