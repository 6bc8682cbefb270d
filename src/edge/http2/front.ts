import {
  createServer,
  type Http2Server,
  constants as h2,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import type { TLSSocket } from 'node:tls'
import { Budget } from '../../core/net/budget.ts'
import type { Limits } from '../../protocol/limits.ts'
import { cutSoon } from '../last-words.ts'
import { Http2Request } from './request.ts'
import { Http2Response } from './response.ts'

export interface Http2FrontOptions {
  readonly limits: Readonly<Limits>
  onRequest(request: Http2Request, response: Http2Response): void
}

/** Why connections were closed that did what no well-meant client does. */
export interface Http2Counters {
  /** Requests that were abandoned at once, again and again (CVE-2023-44487). */
  resets: number
  /** PING and SETTINGS frames that want an answer. */
  frames: number
}

interface Peer {
  readonly socket: TLSSocket
  readonly resets: Budget
  readonly frames: Budget
  streams: number
  /** Milliseconds of `performance.now()`. */
  idleSince: number
  everAsked: boolean
  heardAt: number
  seenBytes: number
  /** null: it was heard since. */
  pingedAt: number | null
}

const sweepMsMost = 1_000
/** What one client may do at once of what it may do seldom, and again in as much time. */
const windowMs = 10_000
const framesMost = 200
/** Browsers send each cookie as a header of its own. */
const crumbs = 128
/** Of Node: what one connection may keep waiting; beyond it, it gets no more streams. */
const sessionMegabytes = 10

/** Speaks HTTP/2 on connections that have agreed on it. */
export class Http2Front {
  readonly counters: Http2Counters = { resets: 0, frames: 0 }
  private readonly options: Http2FrontOptions
  private readonly server: Http2Server
  private readonly peers = new Map<ServerHttp2Session, Peer>()
  private readonly sweeper: NodeJS.Timeout
  private accepting: TLSSocket | null = null
  private leaving = false

  constructor(options: Http2FrontOptions) {
    this.options = options
    const { limits } = options
    this.server = createServer({
      settings: {
        maxConcurrentStreams: limits.http2Streams,
        maxHeaderListSize: limits.headerBytes,
        enablePush: false,
      },
      // A few more than are allowed are told so; what is far beyond ends the stream.
      maxHeaderListPairs: 2 * limits.headerCount + crumbs,
      maxSessionMemory: sessionMegabytes,
      maxSessionInvalidFrames: 100,
      maxSessionRejectedStreams: 100,
      maxSettings: 32,
      // Of frames that are nothing but resets, before any of ours is asked.
      streamResetBurst: 2 * limits.http2Resets,
      streamResetRate: Math.max(1, Math.ceil((2 * limits.http2Resets * 1_000) / windowMs)),
    })
    this.server.on('session', (session) => this.opened(session))
    this.server.on('stream', (stream, _headers, _flags, rawHeaders: unknown) =>
      this.asked(stream as ServerHttp2Stream, rawHeaders as string[]),
    )
    // A connection that breaks is the client's affair.
    this.server.on('sessionError', () => {})
    const shortest = Math.min(limits.idlePingMs, limits.idlePongMs, limits.http2IdleMs)
    this.sweeper = setInterval(() => this.sweep(), Math.min(sweepMsMost, shortest / 2))
  }

  get connections(): number {
    return this.peers.size
  }

  get streams(): number {
    let streams = 0
    for (const peer of this.peers.values()) streams += peer.streams
    return streams
  }

  accept(socket: TLSSocket): void {
    this.accepting = socket
    this.server.emit('connection', socket)
    this.accepting = null
  }

  /** Clients open no more streams; those that are open go on. */
  leave(): void {
    this.leaving = true
    for (const session of this.peers.keys()) session.close()
  }

  close(): void {
    clearInterval(this.sweeper)
    for (const [session, { socket }] of this.peers) {
      session.destroy()
      setImmediate(() => socket.destroy())
    }
  }

  private opened(session: ServerHttp2Session): void {
    const now = performance.now()
    const peer: Peer = {
      socket: this.accepting!,
      resets: new Budget(this.options.limits.http2Resets, windowMs, now),
      frames: new Budget(framesMost, windowMs, now),
      streams: 0,
      idleSince: now,
      everAsked: false,
      heardAt: now,
      seenBytes: 0,
      pingedAt: null,
    }
    this.peers.set(session, peer)
    session.on('close', () => this.peers.delete(session))
    const frame = () => {
      if (!peer.frames.take(performance.now())) this.calm(session, 'frames')
    }
    session.on('ping', frame)
    session.on('remoteSettings', frame)
    if (this.leaving) session.close()
  }

  private asked(stream: ServerHttp2Stream, rawHeaders: readonly string[]): void {
    const { session } = stream
    stream.on('error', () => {})
    const peer = session === undefined ? undefined : this.peers.get(session as ServerHttp2Session)
    if (peer === undefined || stream.destroyed || stream.closed) {
      if (peer !== undefined) this.reset(session as ServerHttp2Session, peer)
      return
    }
    peer.streams++
    peer.everAsked = true
    const request = new Http2Request(stream, rawHeaders, peer.socket)
    const response = new Http2Response(stream, request, this.options.limits.clientStallMs)
    stream.on('close', () => {
      peer.streams--
      peer.idleSince = performance.now()
      if (stream.aborted || stream.rstCode !== h2.NGHTTP2_NO_ERROR)
        this.reset(session as ServerHttp2Session, peer)
    })
    if (request.headers.expect?.toLowerCase() === '100-continue') response.writeContinue()
    this.options.onRequest(request, response)
  }

  private reset(session: ServerHttp2Session, peer: Peer): void {
    if (!peer.resets.take(performance.now())) this.calm(session, 'resets')
  }

  private calm(session: ServerHttp2Session, why: keyof Http2Counters): void {
    if (session.destroyed) return
    this.counters[why]++
    const { socket } = this.peers.get(session)!
    // The code in place of the error: beside an error of undefined, Node would take it for 0.
    session.destroy(h2.NGHTTP2_ENHANCE_YOUR_CALM as never)
    cutSoon(socket)
  }

  /** Pings who is silent, drops who stays so, and closes connections that nobody uses. */
  private sweep(): void {
    const { idlePingMs, idlePongMs, http2IdleMs, handshakeMs } = this.options.limits
    const now = performance.now()
    for (const [session, peer] of this.peers) {
      const { bytesRead } = peer.socket
      if (bytesRead !== peer.seenBytes) {
        peer.seenBytes = bytesRead
        peer.heardAt = now
        peer.pingedAt = null
      }
      const silentMs = now - peer.heardAt
      const idleMs = peer.streams > 0 ? 0 : now - peer.idleSince
      if (peer.pingedAt !== null && now - peer.pingedAt >= idlePongMs) peer.socket.destroy()
      else if (idleMs >= (peer.everAsked ? http2IdleMs : handshakeMs)) {
        if (session.closed) continue
        session.close()
        cutSoon(peer.socket)
      } else if (silentMs >= idlePingMs && peer.pingedAt === null && !session.closed) {
        peer.pingedAt = now
        session.ping(() => {})
      }
    }
  }
}
