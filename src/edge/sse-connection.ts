import { createHash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { SentOutputs } from '../core/session/sent-outputs.ts'
import type { ChannelVerdict, SharedMessages } from '../gateway/client-connection.ts'
import type { ResumableConnection } from '../gateway/resumable.ts'
import type { ResumableSession } from '../gateway/resumable-session.ts'
import type { ClientWelcome } from '../protocol/client-frames.ts'
import { CloseCode } from '../protocol/close-codes.ts'
import type { Limits } from '../protocol/limits.ts'
import { formatPosition, type Position } from '../protocol/position.ts'
import { encodeComment, encodeEvent } from '../protocol/sse.ts'
import { channelKeyLength, cursorChannels, encodePositions, endedEventId } from '../protocol/sse-cursor.ts'
import type { Watch, WatchListener } from './identity/watch.ts'
import { cutSoon } from './last-words.ts'

/** Clients that lose their gateway come back spread; none of them at once, should there be no other one. */
const retryMinMs = 100
/** A client that is sent away comes back spread over this time. */
const retrySpreadMs = 2_000
/** A part of the node's credit: the client never acknowledges, and credit must be left while this is kept. */
const keptShare = 1 / 4
/** Small ones cost more than their bytes. */
const keptOutputs = 8_192

/** Ends that are no end for the client: it comes back, to the same session or to another one. */
const comesBack: ReadonlySet<number> = new Set([
  CloseCode.internalError,
  CloseCode.tryAgainLater,
  CloseCode.slowConsumer,
])

const heartbeat = encodeComment('hb')

/** What belongs to a channel in ids. Two channels of a session with one key are as good as impossible. */
export function channelKey(name: string): string {
  return createHash('sha256').update(name).digest('base64url').slice(0, channelKeyLength)
}

/** A stream of Server-Sent Events (PROTOCOL.md §3). It acknowledges outputs in its client's stead, as late as it can. */
export class SseConnection implements ResumableConnection, WatchListener {
  readonly transport = 'sse'
  session: ResumableSession | null = null
  /** Who the client is, and until when; null: nobody asks. */
  watch: Watch | null = null
  private readonly response: ServerResponse
  /** Ends the token that the client posts with: says which gateway has its stream. */
  private readonly ownerTag: string
  private readonly now: () => number
  private readonly sent: SentOutputs
  /** What ids begin with. */
  private prefix = ''
  /** The last output that was written. */
  private out = 0
  private written = 0
  /** By channel, the one that moved last at the end. */
  private readonly positions = new Map<string, readonly [key: string, position: Position]>()
  /** The positions, as they end ids. */
  private suffix = ''

  constructor(response: ServerResponse, ownerTag: string, limits: Readonly<Limits>, now: () => number) {
    this.response = response
    this.ownerTag = ownerTag
    this.now = now
    const bytes = limits.clientBufferBytes * keptShare
    this.sent = new SentOutputs({ count: keptOutputs, bytes, ms: limits.resumeMs })
  }

  get closed(): boolean {
    return this.response.writableEnded || this.response.destroyed
  }

  get pendingBytes(): number {
    return this.response.writableLength
  }

  welcome({ session, token, recovered, reason, out, resumeMs, retryMs, messageBytes }: ClientWelcome): void {
    this.prefix = `${session}.${token}.`
    this.out = out
    const data = { session, token: `${token}.${this.ownerTag}`, recovered, reason, resumeMs, messageBytes }
    this.event(JSON.stringify(data), 'session', retryMinMs + retryMs)
  }

  missed(upTo: number): void {
    const missed = { from: this.out + 1, to: upTo }
    this.out = upTo
    this.event(JSON.stringify(missed), 'gap')
  }

  deliver(batch: Buffer, start: number, end: number, text: boolean): boolean {
    this.out++
    this.write(`id: ${this.id}\n${encodeMessage(batch.subarray(start, end), text)}`)
    this.sent.add(this.out, end - start, this.written, this.now())
    this.acknowledgeFor(this.sent.trim(this.taken))
    return this.keepsUp()
  }

  /** Without an id: it is not sent again. */
  deliverLate(batch: Buffer, start: number, end: number, text: boolean): void {
    this.write(encodeMessage(batch.subarray(start, end), text))
  }

  deliverShared(shared: SharedMessages): void {
    shared.encoded.sse ??= shared.messages.map(({ payload, text }) => encodeMessage(payload, text))
    let events = ''
    for (const [index, { position }] of shared.messages.entries()) {
      // The id is the client's own; the rest is the same for all.
      if (position !== null) {
        this.place(shared.channel, position)
        events += `id: ${this.id}\n`
      }
      events += shared.encoded.sse[index]
    }
    this.write(events)
  }

  verdict(channel: string, verdict: ChannelVerdict, position: Position | null): void {
    this.place(channel, position)
    if (verdict !== 'joined') {
      const place = position === null ? null : formatPosition(position)
      this.event(JSON.stringify({ channel, verdict, position: place }), 'verdict')
    } else if (position !== null) {
      // No event: it only tells the client from where on it would go on.
      this.write(`id: ${this.id}\n\n`)
    }
  }

  /** Each message is a request of its own, whose answer says so. */
  acknowledge(): void {}

  keepsUp(): boolean {
    return !this.response.writableNeedDrain
  }

  /** Now and then: keeps proxies and clients from giving up, and lets go of what is old. */
  beat(): void {
    if (this.keepsUp()) this.write(heartbeat)
    this.acknowledgeFor(this.sent.expire(this.taken, this.now()))
  }

  /** The client has taken what was written. */
  drained(): void {
    this.acknowledgeFor(this.sent.trim(this.taken))
    this.session?.connectionDrained()
  }

  /** There is nothing to pause: each message is a request of its own, and gets 429 instead. */
  pause(): void {}
  resume(): void {}

  move(): void {
    this.end(`retry: ${retryMinMs}\n\n`)
  }

  close(code: number, reason: string): void {
    const retry = Math.ceil(retryMinMs + Math.random() * retrySpreadMs)
    if (code === CloseCode.serviceRestart) this.end(`retry: ${retry}\n\n`)
    else {
      const event = 'close'
      // EventSource comes back whatever it is told; this id is answered with 204, which ends that.
      const more = comesBack.has(code) ? { event, retry } : { event, id: endedEventId }
      this.end(encodeEvent(JSON.stringify({ code, reason }), more))
    }
  }

  /** The client is nobody any more. */
  over(code: number, reason: string): void {
    if (this.session !== null) this.session.resumable.expired = true
    this.session?.closeClient(code, reason)
    this.close(code, reason)
  }

  private end(lastWords: string): void {
    if (this.closed) return
    const { response } = this
    const { socket } = response
    response.end(lastWords)
    // A connection that is kept alive would bring the client back here; one of HTTP/2 is told to the client when the gateway leaves.
    socket?.destroySoon()
    cutSoon(socket ?? response)
  }

  private event(data: string, event: string, retry?: number): void {
    const more = { event, id: this.id }
    this.write(encodeEvent(data, retry === undefined ? more : { ...more, retry }))
  }

  private write(text: string): void {
    if (this.closed) return
    this.written += Buffer.byteLength(text)
    this.response.write(text)
  }

  /** All that the client needs to go on behind what was written. */
  private get id(): string {
    return `${this.prefix}${this.out}${this.suffix}`
  }

  /** null: the channel has no position. */
  private place(channel: string, position: Position | null): void {
    const { positions } = this
    const key = positions.get(channel)?.[0] ?? channelKey(channel)
    positions.delete(channel)
    if (position !== null) positions.set(channel, [key, position])
    if (positions.size > cursorChannels) positions.delete(positions.keys().next().value!)
    this.suffix = encodePositions([...positions.values()])
  }

  /** Of what was written. What the socket has not taken counts with its framing, so this is never too much. */
  private get taken(): number {
    return this.written - this.response.writableLength
  }

  private acknowledgeFor(upTo: number): void {
    if (upTo > 0) this.session?.acknowledge(upTo)
  }
}

function encodeMessage(payload: Buffer, text: boolean): string {
  return text
    ? encodeEvent(payload.toString('utf8'))
    : encodeEvent(payload.toString('base64'), { event: 'binary' })
}
