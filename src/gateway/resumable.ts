import { createHash, randomBytes } from 'node:crypto'
import { KeptOutputs } from '../core/session/kept-outputs.ts'
import { isSameSecret } from '../link/token.ts'
import type { ClientResume, ClientWelcome } from '../protocol/client-frames.ts'
import type { ClientConnection } from './client-connection.ts'
import type { ResumableSession } from './resumable-session.ts'

/** The connection of a client that speaks `evenkeel.v1`. */
export interface ResumableConnection extends ClientConnection {
  /** Whose connection it is, once it was greeted. */
  session: ResumableSession | null
  readonly closed: boolean
  /** The first thing that the client gets. */
  welcome(welcome: ClientWelcome): void
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
  readonly channels: ClientResume['channels']
}

/** SHA-256, base64url: what is kept of a token. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('base64url')
}

export function newToken(): string {
  return randomBytes(32).toString('base64url')
}

interface KeptPayload {
  readonly payload: Buffer
  readonly text: boolean
}

/** What a gateway keeps of a session so that its client can come back (PROTOCOL.md §1.10, §2.1). */
export class Resumable {
  /** Hashes: of the present token, then of the one before it while that is still valid. */
  tokens: string[]
  readonly kept: KeptOutputs<KeptPayload>
  /** The last output that the client has acknowledged. */
  acked: number
  greeting: Greeting | null = null
  /** When the client was lost; null while it is there. */
  detachedAt: number | null = null
  /** Counts what the node was given to keep. */
  version = 0
  private keptVersion = 0
  private waiting: { version: number; run: () => void }[] = []

  /** `acked`: the last output that the client had before the session came here. */
  constructor(tokens: string[], acked = 0) {
    this.tokens = tokens
    this.acked = acked
    this.kept = new KeptOutputs(acked)
  }

  accepts(tokenHash: string): boolean {
    // No short cut: how long it takes must not say which one it was.
    return this.tokens.map((known) => isSameSecret(tokenHash, known)).includes(true)
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
