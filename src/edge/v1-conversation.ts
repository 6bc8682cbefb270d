import type { IncomingMessage } from 'node:http'
import type { Gateway } from '../gateway/gateway.ts'
import type { ResumeRequest } from '../gateway/resumable.ts'
import type { ResumableSession } from '../gateway/resumable-session.ts'
import type { Turn } from '../gateway/turn.ts'
import {
  type ChannelVerdict,
  ClientFrame,
  type ClientResume,
  type ClientWelcome,
  encodeClientWelcome,
  encodeCount,
  encodeVerdict,
  parseClientHello,
  parseCount,
  pingFrame,
} from '../protocol/client-frames.ts'
import { CloseCode, clipCloseReason } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { SessionMeta } from '../protocol/link-records.ts'
import { formatPosition, type Position, parsePosition } from '../protocol/position.ts'
import { type TraceContext, traceContextOf } from '../protocol/trace-context.ts'
import { ClientChannels, type ClientChannelsOptions } from './identity/client-channels.ts'
import { ownRuns } from './identity/run-owner.ts'
import { identityOf, senderOf } from './identity/sender.ts'
import type { Watch } from './identity/watch.ts'
import { type RunCarrier, RunStreams, type RunStreamsOptions } from './run-streams.ts'
import type { Target } from './target.ts'

/** What carries the frames of one client. */
export interface V1Wire {
  readonly isOpen: boolean
  /** Whose connection it is, once it was greeted. */
  readonly session: ResumableSession | null
  /** Sends one text frame; its first byte says what it is. */
  control(frame: Buffer): void
  /** False when the client has not taken what was written before; then `drained` follows. */
  keepsUp(): boolean
  /** What the client's socket has not taken, in bytes. */
  readonly pendingBytes: number
  close(code: number, reason: string): void
  /** The client shows another token. */
  refresh(token: string): void
  /** Who it is; null: nobody asks. */
  readonly watch: Watch | null
}

export interface V1Options {
  turn: Turn
  runs: Omit<RunStreamsOptions, 'carrier'>
  channels: ClientChannelsOptions
  /** A reader may leave so many bytes unread before its run waits. */
  runReaderBytes: number
  onHello(resume: ClientResume | null): void
}

/** What all conversations of a gateway have in common. */
export function v1Options(
  { gateway, onError }: { gateway: Gateway; onError(error: unknown): void },
  { pool, route }: Pick<Target, 'pool' | 'route'>,
  request: IncomingMessage,
): Omit<V1Options, 'onHello'> {
  const { turn, limits, runs } = gateway
  const { runReaderBytes, runStreams: streams } = limits
  const permissions = senderOf(request)?.identification.options.permissions ?? null
  const own = ownRuns(runs, { identity: identityOf(request), pool, route })
  const channels = { gateway, permissions }
  return { turn, runReaderBytes, channels, runs: { runs: own, pool, streams, onError } }
}

/** The gateway's side of `evenkeel.v1` (PROTOCOL.md §2.1), whatever carries it. */
export class V1Conversation implements RunCarrier {
  private readonly wire: V1Wire
  private readonly options: V1Options
  private readonly runs: RunStreams
  private readonly channels: ClientChannels
  /** It is to be asked for once the client is welcome. */
  private tokenDue = false
  /** silent until hello, waiting until the welcome, welcomed until the client's next frame. */
  private phase: 'silent' | 'waiting' | 'welcomed' | 'live' = 'silent'
  /** Number of the last message that the client has sent. */
  private lastMessage = 0
  private committed = 0
  /** What the client was told of that. */
  private acknowledged = 0

  constructor(wire: V1Wire, options: V1Options) {
    this.wire = wire
    this.options = options
    this.runs = new RunStreams({ ...options.runs, carrier: this })
    const tell = (channel: string, verdict: ChannelVerdict['verdict']) =>
      this.control(encodeVerdict({ channel, verdict, position: null }))
    this.channels = new ClientChannels(options.channels, () => wire.watch?.identity ?? null, tell)
  }

  trace(): TraceContext | null {
    const meta = this.wire.session?.meta
    if (meta?.includes('"traceparent"') !== true) return null
    return traceContextOf((JSON.parse(meta) as SessionMeta).headers)
  }

  get awaitsHello(): boolean {
    return this.phase === 'silent'
  }

  /** Takes a frame of the client. */
  received(data: Buffer, text: boolean): void {
    if (!this.wire.isOpen) return
    try {
      this.frame(data, text)
    } catch (error) {
      if (!(error instanceof EvenkeelError) || error.code !== 'BAD_REQUEST') throw error
      this.wire.close(CloseCode.protocolViolation, clipCloseReason(error.message))
    }
  }

  verdict(channel: string, verdict: 'joined' | 'continuous' | 'gap', position: Position | null): void {
    const place = position === null ? null : formatPosition(position)
    this.control(encodeVerdict({ channel, verdict, position: place }))
  }

  welcome(welcome: ClientWelcome): void {
    this.phase = 'welcomed'
    this.lastMessage = welcome.last
    this.committed = welcome.ack
    this.acknowledged = welcome.ack
    this.control(encodeClientWelcome(welcome))
    if (this.tokenDue) this.askForToken()
  }

  acknowledge(seq: number): void {
    // One frame says it for all messages that were committed in this turn.
    if (this.committed === this.acknowledged) this.options.turn.collect(this.sendAcknowledgement)
    this.committed = seq
  }

  move(): void {
    this.control(String.fromCharCode(ClientFrame.resume))
  }

  /** The token that the client has shown ends soon. */
  askForToken(): void {
    this.tokenDue = this.phase === 'silent' || this.phase === 'waiting'
    if (!this.tokenDue) this.control(tokenRequest)
  }

  /** The socket has taken what was written. */
  drained(): void {
    this.runs.drained()
  }

  /** The connection is about to be closed: what is known is said. */
  closing(): void {
    this.sendAcknowledgement()
  }

  /** The connection is gone. */
  closed(): void {
    this.runs.close()
  }

  sendText(frame: Buffer): void {
    if (this.wire.isOpen) this.wire.control(frame)
  }

  hasRoom(): boolean {
    return this.wire.pendingBytes <= this.options.runReaderBytes || this.wire.keepsUp()
  }

  private readonly sendAcknowledgement = (): void => {
    if (this.acknowledged === this.committed) return
    this.acknowledged = this.committed
    this.control(encodeCount(this.committed))
  }

  private control(frame: string): void {
    this.wire.control(Buffer.from(frame))
  }

  private frame(data: Buffer, text: boolean): void {
    const type = data[0]
    if (this.phase === 'silent') {
      if (type !== ClientFrame.hello || !text) throw invalid('the first frame must be hello')
      const { resume = null } = parseClientHello(data.toString())
      this.phase = 'waiting'
      this.options.onHello(resume)
      return
    }
    if (this.phase === 'waiting') throw invalid('a frame before the welcome')
    const session = this.wire.session!
    if (this.phase === 'welcomed') {
      this.phase = 'live'
      session.tokenReceived()
    }
    if (type === ClientFrame.message) session.receiveNumbered(++this.lastMessage, data.subarray(1), text)
    else if (this.channels.received(type, data, text, session)) return
    else if (!text || type === undefined) throw unknownFrame()
    else this.textFrame(type, data.toString(), session)
  }

  private textFrame(type: number, frame: string, session: ResumableSession): void {
    if (type === ClientFrame.count) session.acknowledge(parseCount(frame))
    else if (frame === pingFrame) this.pong()
    else if (type === ClientFrame.token) this.wire.refresh(frame.slice(1))
    else if (!this.runs.received(type, frame)) throw unknownFrame()
  }

  /** Who does not keep up has other frames to hear us by. */
  private pong(): void {
    if (this.wire.keepsUp()) this.control(pingFrame)
  }
}

const tokenRequest = String.fromCharCode(ClientFrame.token)

/** null: a client that has had no session. */
export function requestOf(resume: ClientResume | null): ResumeRequest | null {
  if (resume === null) return null
  const { session, token, out, channels } = resume
  return { session, token, out, since: (name) => parsePosition(channels[name] ?? '') }
}

function unknownFrame(): EvenkeelError {
  return invalid('a frame of an unknown kind')
}

function invalid(message: string): EvenkeelError {
  return new EvenkeelError('BAD_REQUEST', message)
}
