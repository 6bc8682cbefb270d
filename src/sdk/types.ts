import type { MigratePolicy, SessionMeta } from '../protocol/link-records.ts'

export type { MigratePolicy, SessionMeta }

/** JSON value; at most 64 KiB as text. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json }

/**
 * `stream`: outputs leave as they are made. If the node dies before the message's commit, the message is delivered again
 * (marked `redelivered`) and outputs of the first attempt may have been seen.
 * `atomic`: outputs of a message leave with its commit, together with the state, or not at all.
 */
export type Delivery = 'stream' | 'atomic'

export interface NodeOptions {
  /** Unique among the live nodes: 1 to 64 of `A–Z a–z 0–9 . _ : -`. */
  id: string
  /** Nodes that do the same job. Default `default`. */
  pool?: string
  /** Share of the sessions relative to the other nodes of the pool: above 0, at most 1,000,000. Default 1. */
  weight?: number
  /** The node refuses more sessions than this. Default: no limit. */
  maxSessions?: number
  /** Internal listeners of the gateways, such as `ws://127.0.0.1:8081`. The node links to every one of them. */
  gateways?: string[]
  /** The Redis of the cluster, `redis:` or `rediss:`: the node finds every gateway there, now and later. Either this or `gateways`. */
  redis?: string
  /** The gateways' EVENKEEL_NODE_TOKEN. Default: the environment variable of this name. */
  token?: string
  /** For `wss:` gateways: PEM of the certificates that sign theirs, or are theirs. Default: those that Node trusts. */
  ca?: string | Uint8Array
  /** Default `stream`. */
  delivery?: Delivery
  /**
   * `always` (default): sessions move whenever that makes the pool more even. `drain`: only when the node is drained, or an
   * operator moves one; new sessions still go where there are fewest.
   */
  migrate?: MigratePolicy
  /**
   * How much the node has to do, 0 or more, in any measure that all nodes of the pool share; asked with each heartbeat (2 s). Gateways that balance by
   * `reported` load go by it. Default: it does not say.
   */
  load?: () => number
  /** The application's version, at most 64 characters: shown to operators, and what a canary of live sessions goes by. Default ''. */
  version?: string
  /** Drain and exit on SIGTERM. Default true. */
  drainOnSigterm?: boolean
  /** Where warnings and errors go. Default: `console`. */
  logger?: Logger
}

export interface Logger {
  info(message: string): void
  warn(message: string): void
  error(message: string): void
}

export interface MessageContext {
  /** The message was given to a node before, which may have handled it in part: make outside effects idempotent. */
  readonly redelivered: boolean
  /** Number of the message in its session, from 1; stays with it when it is delivered again. */
  readonly seq: number
}

export interface CloseReason {
  /** WebSocket close code; 1006 when the client vanished. */
  readonly code: number
  readonly reason: string
  /**
   * `client`: the client left, or did not come back in time (1006). `node`: `session.close()`, or a handler failed. `migrated`: the session goes
   * on at another node, so stop timers and save what should travel in `session.state`. `link-lost`: the gateway is not reachable, or has given
   * the session to somebody else without asking; it goes on elsewhere from its last commit, and what is assigned to `session.state` now is lost.
   */
  readonly cause: 'client' | 'node' | 'migrated' | 'link-lost'
}

/**
 * All handlers may be async. For one session they run one at a time, in order; only `close` with cause `link-lost` does not wait for the one in flight.
 * A `message` handler that throws closes the session with 1011.
 */
export interface SessionHandlers<State extends Json = Json> {
  /**
   * The session is about to come here, with the state of its last commit: `open` follows, or `released` when it does not come. What throws
   * keeps it where it is. Nothing can be sent yet. Within 5 s.
   */
  prepare?(session: Session<State>): void | Promise<void>
  /**
   * The session is here: new, or (`session.recovered`) continued from another node or after a migration that was called off.
   * Not called when the session goes on here by way of another gateway: nothing has changed for it then.
   */
  open?(session: Session<State>): void | Promise<void>
  /** Committed when it settles. */
  message?(session: Session<State>, data: string | Uint8Array, context: MessageContext): void | Promise<void>
  /** An error with code VETO calls a move off (cause `migrated`): `open` runs again, with `recovered`. */
  close?(session: Session<State>, reason: CloseReason): void | Promise<void>
  /** A session that was prepared does not come, or one that was handed over (`close` with cause `migrated`) does not come back. */
  released?(session: Session<State>): void
  /** `drain` has moved all sessions away; links close when this settles. */
  drained?(): void | Promise<void>
}

export interface SendOptions {
  /** Dropped when the client does not keep up; not with clients that resume. Default false. */
  volatile?: boolean
}

export interface Session<State extends Json = Json> {
  /** The same for the whole life of the session, on every node. */
  readonly id: string
  /** What is known of the client, as it was when it first came. */
  readonly meta: SessionMeta
  /** Grows at every migration and recovery, and when the client comes back by way of another gateway. */
  readonly term: number
  /** The session existed before it came to this node. */
  readonly recovered: boolean
  /** False once the session has left this node, or its client has gone for good: what is still sent reaches nobody. */
  readonly open: boolean
  /**
   * Saved at the gateway with the commit of the message being handled (outside a handler: at once) and there again after a
   * migration or a crash, of this node or of the gateway. Assign, do not mutate. Throws TOO_LARGE above 64 KiB of JSON, BAD_REQUEST for what is not JSON.
   * Assigning after the session has left has no effect.
   */
  state: State | undefined
  /**
   * Sends a message to the client. Returns false above the high-water mark (or when the session is gone): then await `drained()`.
   * What is sent nevertheless is queued up to 1 MiB; past that the session is closed with 4008. The mark is 1 MiB that the client has not
   * read; with a client that can resume, that it has not acknowledged, also while it is away.
   * Throws TOO_LARGE above the message limit (1 MiB).
   */
  send(data: string | Uint8Array, options?: SendOptions): boolean
  /** Resolves when more may be sent, or when the session is gone. */
  drained(): Promise<void>
  /**
   * The client gets what is published to the channel, on whatever node the session is. Takes effect at once, whatever the commit does.
   * At most 128 channels a session; one more is refused and logged. Throws BAD_REQUEST for a name that is empty, longer than 255 bytes or has control characters.
   */
  join(channel: string): void
  leave(channel: string): void
  /**
   * Closes the client's connection; default 1000. A client that is away at that moment is told that its session is unknown.
   * Throws BAD_REQUEST for a code that may not be sent.
   */
  close(code?: number, reason?: string): void
}
