import type { ChannelMessage, ChannelVerdict, LossReason, Payload } from '../src/protocol/client-frames.ts'

/** `connecting`: until the gateway's welcome. `waiting`: for the next attempt. `closed`: for good. */
export type ClientState = 'connecting' | 'open' | 'waiting' | 'closed'

export interface SessionEvent {
  id: string
  /** null: the first session. true: the earlier one goes on, nothing is missing. false: that one is lost, this is a new one. */
  recovered: boolean | null
  /**
   * Why the earlier session is lost, else null. `expired`: this client was away for longer than the session is kept. `unknown`: no gateway or node
   * has it. `token`: somebody else has resumed it. `gap`: outputs are not there any more.
   */
  reason: LossReason | 'expired' | null
}

/**
 * Why a connection has ended that another one follows. `lost`: the network, or an attempt that failed. `moved`: the gateway sends its clients
 * to another one. `stopping`: it stops. `no-node`: no node took the session. `failed`: a handler of the node, or a proxy, failed. `slow`: this client reads
 * too slowly. `asleep`: the page went to sleep. `ended`: the node closed the session with a code that asks for a new one.
 */
export type DisconnectKind =
  | 'lost'
  | 'moved'
  | 'stopping'
  | 'no-node'
  | 'failed'
  | 'slow'
  | 'asleep'
  | 'ended'

export interface DisconnectEvent {
  /** Close code of the connection; 1006 when there was none, also for an attempt that failed. */
  code: number
  reason: string
  kind: DisconnectKind
  /** Until the next attempt, in milliseconds; Infinity: until the page is awake again. */
  waitMs: number
}

/**
 * Why it is over. `closed`: by `close()`. `ended`: by the node, whose code and reason these are. `replaced`: the session goes on over another
 * connection. `too-large`: a message above the limit. `protocol`: the two do not understand each other, and `reason` says what was wrong.
 */
export type CloseKind = 'closed' | 'ended' | 'replaced' | 'too-large' | 'protocol'

export interface CloseEvent {
  code: number
  reason: string
  kind: CloseKind
}

export interface ClientEvents {
  /** An output of the session's node: in order, each once. */
  message: Payload
  /** What was published to a channel that the session is in. */
  channel: ChannelMessage
  /** Whether anything of a channel is missing. */
  verdict: ChannelVerdict
  /** A gateway has welcomed the client. */
  session: SessionEvent
  /** A connection, or an attempt, has ended; another one follows. */
  disconnect: DisconnectEvent
  /** It is over; nothing follows. */
  close: CloseEvent
}

/** A listener of `message` may return a promise: the next message, and its acknowledgement, wait for it. */
export type Listener<Event extends keyof ClientEvents> = (value: ClientEvents[Event]) => unknown

/** The part of a WebSocket that is used: that of browsers, of Node.js and of `ws` have it. */
export interface WebSocketLike {
  readonly protocol: string
  binaryType: string
  onopen: ((event: never) => void) | null
  onmessage: ((event: never) => void) | null
  onclose: ((event: never) => void) | null
  onerror: ((event: never) => void) | null
  send(data: string | Uint8Array<ArrayBuffer>): void
  close(code: number, reason: string): void
}

export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike

/** The part of a window that is used. */
export interface PageLike {
  readonly document?: { readonly visibilityState: string }
  addEventListener(type: string, listener: (event: never) => void, capture?: boolean): void
  removeEventListener(type: string, listener: (event: never) => void, capture?: boolean): void
}

export interface Clock {
  /** Milliseconds of a clock that never goes back. */
  now(): number
  setTimeout(callback: () => void, ms: number): unknown
  clearTimeout(timer: unknown): void
}

export interface RunOptions {
  /** Default: the pool of the gateway's sessions. */
  pool?: string
  /**
   * Names the run: a call with the same key and body, from this page or after a reload, finds the run that the first one has made, and reads it from its
   * beginning. 1 to 255 printable ASCII characters. Default: a random one.
   */
  key?: string
  /** `durable` (default): the run goes on without readers. `attached`: it is cancelled when its last reader leaves. */
  mode?: 'durable' | 'attached'
}

export interface ClientOptions {
  /**
   * Says who the client is, by a JSON Web Token: asked before each connection, and when the gateway asks because the one before expires soon. It goes as a
   * subprotocol, over HTTP as a header. What it rejects with counts as an attempt that failed. Default: no token.
   */
  token?: (() => string | Promise<string>) | undefined
  /** What `send` keeps until it is committed, in bytes of payload. Default 1 MiB. */
  maxPendingBytes?: number
  /** The same, in messages. Default 1,024. */
  maxPendingMessages?: number
  /**
   * Where to go when WebSockets do not get through, as behind some proxies: `http://…/sse/v1` or `https://…/sse/v1`. Default: beside the URL, `/ws` replaced
   * by `/sse/v1`; null: nowhere.
   */
  fallbackUrl?: string | null
  /** Default: the global `WebSocket`. */
  WebSocket?: WebSocketConstructor
  /**
   * Whose `online`, `visibilitychange`, `pagehide` and `pageshow` tell of the page's sleep and of the network's return. Default: the window, or
   * the worker, where there is one; null: nobody.
   */
  page?: PageLike | null
  /** 0 ≤ x < 1. Default `Math.random`. */
  random?: () => number
  /** Default: the timers of the platform. */
  clock?: Clock
}
