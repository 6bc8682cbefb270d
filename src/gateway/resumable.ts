import { createHash } from 'node:crypto'
import { KeptOutputs } from '../core/session/kept-outputs.ts'
import { KeyedMessages } from '../core/session/keyed-messages.ts'
import { isSameSecret } from '../link/token.ts'
import type { ClientWelcome } from '../protocol/client-frames.ts'
import type { SessionMeta } from '../protocol/link-records.ts'
import type { Position } from '../protocol/position.ts'
import type { ClientConnection } from './client-connection.ts'
import { randomText } from './random-text.ts'
import type { ResumableSession } from './resumable-session.ts'

/** What a client says that has had a session. */
export interface ResumeRequest {
  readonly session: string
  readonly token: string
  /** The last output that the client has handled. */
  readonly out: number
  /** The last position of the channel that the client has seen; null when it knows none. */
  since(channel: string): Position | null
}

/** The connection of a client that can come back: it speaks `evenkeel.v1`, or SSE. */
export interface ResumableConnection extends ClientConnection {
  /** Whose connection it is, once it was greeted. */
  session: ResumableSession | null
  readonly closed: boolean
  /** The first thing that the client gets. */
  welcome(welcome: ClientWelcome): void
  /**
   * Outputs up to this one are no longer held, and the client has not got all of them: the next one is the one behind it.
   * Absent: such a client gets another session.
   */
  missed?(upTo: number): void
  /** The client's messages up to `seq` are committed. */
  acknowledge(seq: number): void
  /** As `deliver`, for output without a number. */
  deliverLate(batch: Buffer, start: number, end: number, text: boolean): void
  /** Asks the client to resume by another connection now. */
  move(): void
}

/** A connection that is greeted once a node keeps what the welcome promises. */
export interface Greeting {
  readonly connection: ResumableConnection
  readonly token: string
  readonly recovered: ClientWelcome['recovered']
  readonly reason: ClientWelcome['reason']
  /** The last output that the client has handled. */
  readonly out: number
  /** What it gets begins behind this one; beyond `out` when outputs between the two are no longer held. */
  readonly from: number
  readonly since: ResumeRequest['since']
}

/** SHA-256, base64url: what is kept of a token. A token of one transport is worth nothing over another one. */
export function hashToken(token: string, transport: SessionMeta['transport'] = 'websocket'): string {
  const prefix = transport === 'websocket' ? '' : `${transport}:`
  return createHash('sha256').update(`${prefix}${token}`).digest('base64url')
}

export function newToken(): string {
  return randomText(32)
}

/** Tokens that were used up and are told apart from those that never were any. */
const usedKept = 8

interface KeptPayload {
  readonly payload: Buffer
  readonly text: boolean
}

/** What a gateway keeps of a session so that its client can come back (PROTOCOL.md §1.10, §2.1). */
export class Resumable {
  /** Hashes: of the present token, then of the one before it while that is still valid. */
  tokens: string[]
  /** Hashes of those that are worth nothing any more, as far as is remembered; the oldest first. */
  private readonly used: string[] = []
  /** Whose session it is; undefined: nobody's who is known. */
  readonly user: string | undefined
  readonly kept: KeptOutputs<KeptPayload>
  /** Of messages that came one by one, each in a request of its own; null before the first key. */
  keyed: KeyedMessages | null = null
  /** The last output that the client has acknowledged. */
  acked: number
  greeting: Greeting | null = null
  /** The client's token has expired, and it has not come back with another one. */
  expired = false
  /** When the client was lost; null while it is there. */
  detachedAt: number | null = null
  /** Counts what the node was given to keep. */
  version = 0
  private keptVersion = 0
  private waiting: { version: number; run: () => void }[] = []

  /** `acked`: the last output that the client had before the session came here. */
  constructor(tokens: string[], user: string | undefined, acked = 0) {
    this.tokens = tokens
    this.user = user
    this.acked = acked
    this.kept = new KeptOutputs(acked)
  }

  accepts(tokenHash: string): boolean {
    // No short cut: how long it takes must not say which one it was.
    return this.tokens.map((known) => isSameSecret(tokenHash, known)).includes(true)
  }

  /** The present token alone is worth something from now on, and `next` if there is one. */
  retire(next: string[] = this.tokens.slice(0, 1)): void {
    this.used.push(...this.tokens.filter((hash) => !next.includes(hash)))
    this.used.splice(0, this.used.length - usedKept)
    this.tokens = next
  }

  /** Whether the token was one of this session's. */
  hasUsed(tokenHash: string): boolean {
    return this.used.map((known) => isSameSecret(tokenHash, known)).includes(true)
  }

  rememberKey(key: string, seq: number): void {
    this.keyed ??= new KeyedMessages()
    this.keyed.remember(key, seq)
  }

  /** Runs `then` once a node keeps what it was, or will be, given under this version. */
  whenKept(version: number, then: () => void): void {
    this.waiting.push({ version, run: then })
  }

  /** The node keeps everything up to `version`. */
  nodeKeeps(version: number): void {
    this.keptVersion = Math.max(this.keptVersion, version)
    const due = this.waiting.filter((wait) => wait.version <= this.keptVersion)
    this.waiting = this.waiting.filter((wait) => wait.version > this.keptVersion)
    for (const { run } of due) run()
  }

  /** The session is over. */
  end(): void {
    const { waiting } = this
    this.waiting = []
    for (const { run } of waiting) run()
  }
}
