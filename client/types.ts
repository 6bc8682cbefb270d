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

export interface DisconnectEvent {
  /** Close code of the connection; 1006 when there was none, also for an attempt that failed. */
  code: number
  reason: string
  /** Until the next attempt, in milliseconds. */
  waitMs: number
}

export interface CloseEvent {
  code: number
  reason: string
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

export interface Clock {
  /** Milliseconds of a clock that never goes back. */
  now(): number
  setTimeout(callback: () => void, ms: number): unknown
  clearTimeout(timer: unknown): void
}

export interface ClientOptions {
  /** What `send` keeps until it is committed, in bytes of payload. Default 1 MiB. */
  maxPendingBytes?: number
  /** The same, in messages. Default 1,024. */
  maxPendingMessages?: number
  /** Default: the global `WebSocket`. */
  WebSocket?: WebSocketConstructor
  /** 0 ≤ x < 1. Default `Math.random`. */
  random?: () => number
  /** Default: the timers of the platform. */
  clock?: Clock
}
