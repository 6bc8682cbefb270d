import { type RawData, WebSocket } from 'ws'
import { backoffMs } from '../core/backoff.ts'
import { LinkCloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { defaultLimits } from '../protocol/limits.ts'
import {
  type Hello,
  linkSubprotocol,
  parseWelcome,
  RecordType,
  recordName,
  type Welcome,
} from '../protocol/link-records.ts'
import { FrameSocket } from './frame-socket.ts'
import { Link, type LinkHandlers } from './link.ts'

export interface LinkDialerOptions {
  /** Base URL of the gateway's internal listener, `ws:` or `wss:`. */
  url: string
  token: string | undefined
  /** PEM of the certificates that are trusted. Undefined: those that Node trusts. */
  ca?: string | Uint8Array | undefined
  hello: () => Hello
  now: () => number
  random: () => number
  /** The gateway welcomed us. */
  onUp(link: Link, welcome: Welcome): LinkHandlers
  /** The link is closed, or an attempt failed; another attempt follows in `retryMs`. Call `stop` to prevent it. */
  onDown(error: EvenkeelError, retryMs: number): void
}

/** The node's end: dials one gateway and keeps the link, with back-off and full jitter. */
export class LinkDialer {
  private readonly options: LinkDialerOptions
  private socket: WebSocket | null = null
  private timer: NodeJS.Timeout | null = null
  private attempt = 0
  private stopped = false
  private failure: EvenkeelError | null = null
  /** HELLO is sent, WELCOME has not come: the gateway may be giving us sessions already. */
  handshaking = false
  /** The gateway welcomed us, and the link is there. */
  isUp = false

  constructor(options: LinkDialerOptions) {
    this.options = options
  }

  start(): void {
    if (!this.stopped) this.dial()
  }

  /** No more attempts. An open link is closed with `code`; resolves when it is. */
  async stop(code: number = LinkCloseCode.goodbye, reason = 'goodbye'): Promise<void> {
    this.stopped = true
    if (this.timer !== null) clearTimeout(this.timer)
    const socket = this.socket
    if (socket === null || socket.readyState === WebSocket.CLOSED) return
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
    if (socket.readyState === WebSocket.CONNECTING) socket.terminate()
    else socket.close(code, reason)
    const forced = setTimeout(() => socket.terminate(), 1_000)
    await closed
    clearTimeout(forced)
  }

  private dial(): void {
    this.timer = null
    this.failure = null
    const { url, token, ca, now } = this.options
    const socket = new WebSocket(new URL('/link', url), linkSubprotocol, {
      perMessageDeflate: false,
      maxPayload: defaultLimits.linkMessageBytes,
      handshakeTimeout: defaultLimits.handshakeMs,
      skipUTF8Validation: true,
      // For the control frames, which `ws` writes.
      generateMask: (mask) => mask.fill(0),
      ...(ca === undefined ? {} : { ca: Buffer.from(ca) }),
      ...(token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } }),
    })
    this.socket = socket
    const frames = new FrameSocket(socket, null, true)
    const link = new Link(
      frames,
      this.handshake(() => link),
      {
        role: 'node',
        highWaterBytes: defaultLimits.linkHighWaterBytes,
        now,
      },
    )
    socket.on('upgrade', (response) => {
      frames.socket = response.socket
      response.socket.on('drain', () => link.checkCongestion())
    })
    socket.on('open', () => {
      this.handshaking = true
      link.putJson(RecordType.hello, 0, 0, this.options.hello())
    })
    socket.on('message', (data: RawData) => link.receive(data as Buffer))
    socket.on('unexpected-response', (_request, response) => {
      response.resume()
      this.failure = new EvenkeelError(
        response.statusCode === 401 ? 'UNAUTHORIZED' : 'BAD_REQUEST',
        `${url} answered ${response.statusCode}${response.statusCode === 401 ? ': set `token` to the gateway’s EVENKEEL_NODE_TOKEN' : ''}`,
      )
      socket.terminate()
    })
    socket.on('error', (error) => {
      this.failure ??= new EvenkeelError(
        'INTERNAL',
        `${url}: ${error.message || (error as NodeJS.ErrnoException).code}`,
      )
    })
    socket.on('close', (code, reason) => {
      link.socketClosed(code, reason.toString())
      this.closed(code, reason.toString())
    })
  }

  private handshake(link: () => Link): LinkHandlers {
    return {
      record: (type, _flags, _session, _term, batch, start, end) => {
        if (type !== RecordType.welcome)
          throw new EvenkeelError('RECORD_INVALID', `${recordName(type)} before WELCOME`)
        this.handshaking = false
        link().handlers = this.options.onUp(link(), parseWelcome(batch.subarray(start, end)))
        this.attempt = 0
        this.isUp = true
      },
      close() {},
    }
  }

  private closed(code: number, reason: string): void {
    this.socket = null
    this.handshaking = false
    this.isUp = false
    if (this.stopped) return
    const failure = this.failure ?? closeError(this.options.url, code, reason)
    const retryMs = backoffMs(this.attempt++, this.options.random)
    this.timer = setTimeout(() => this.dial(), retryMs)
    this.options.onDown(failure, retryMs)
  }
}

function closeError(url: string, code: number, reason: string): EvenkeelError {
  const text = `${url} closed the link: ${code}${reason === '' ? '' : ` ${reason}`}`
  if (code === LinkCloseCode.duplicateId) return new EvenkeelError('CONFLICT', text)
  if (code === LinkCloseCode.protocolError) return new EvenkeelError('RECORD_INVALID', text)
  if (code === LinkCloseCode.unsupportedVersion) return new EvenkeelError('BAD_REQUEST', text)
  return new EvenkeelError('INTERNAL', text)
}
