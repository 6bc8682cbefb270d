import type { UpstreamEntry } from './upstream-entry.ts'

/** One session's own connection to an upstream, whatever is spoken on it. It begins paused. */
export interface UpstreamConnection {
  /** Hands a message to the socket. */
  send(payload: Buffer, text: boolean): void
  /** More waits in this process than it should: `UpstreamListener.drained` follows. */
  readonly congested: boolean
  /** Stop and go on reading what the upstream sends. */
  pause(): void
  resume(): void
  /**
   * Calls `done`, never at once, when the upstream has read what was sent to it and has said what it had to say to that, as far as can be known.
   */
  settle(done: () => void): void
  /** After what was sent. What the upstream had sent before it heard of it is still given to the listener, then `closed`; in bounded time. */
  close(code: number, reason: string): void
  /** At once. The listener hears nothing more. */
  terminate(): void
}

/** Who is told what a connection brings. */
export interface UpstreamListener {
  message(data: Buffer, text: boolean): void
  drained(): void
  /** Once, and nothing follows it. 1006: it broke. */
  closed(code: number, reason: string): void
}

/** Connects one client to any upstream of its pool, again and again: it knows what the client asked for. */
export interface UpstreamDial {
  /** Whether another upstream can go on where this one is. */
  readonly resumable: boolean
  /** Rejects with DialError, and with what it likes once `signal` has aborted. */
  open(entry: UpstreamEntry, listener: UpstreamListener, signal: AbortSignal): Promise<UpstreamConnection>
}

/** Why there is no connection. */
export class DialError extends Error {
  /** No byte of an answer came: nothing speaks against another upstream. */
  readonly unanswered: boolean
  /** It was a matter of time. */
  readonly timedOut: boolean
  /** What the upstream said in place of yes; null: nothing of that kind. */
  readonly status: number | null

  constructor(
    message: string,
    { unanswered = false, timedOut = false, status = null, ...options }: DialErrorOptions = {},
  ) {
    super(message, options)
    this.name = 'DialError'
    this.unanswered = unanswered
    this.timedOut = timedOut
    this.status = status
  }
}

interface DialErrorOptions extends ErrorOptions {
  unanswered?: boolean
  timedOut?: boolean
  status?: number | null
}
