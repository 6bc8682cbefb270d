import type { IncomingMessage } from 'node:http'
import { askAt, endsAt } from '../../core/identity/expiry.ts'
import { CloseCode, clipCloseReason } from '../../protocol/close-codes.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import type { Expiring } from './expiries.ts'
import type { Identity } from './identity.ts'
import { type Sender, senderOf } from './sender.ts'
import { TokenRefused } from './verifier.ts'

export interface WatchListener {
  /** The connection is to be closed. */
  over(code: number, reason: string): void
  /** The client is to show another token. Absent: it cannot. */
  ask?(): void
}

const expiredReason = 'the token has expired'

/** Who has a connection, and until when. */
export class Watch {
  /** null: nobody who is known. */
  identity: Identity | null
  private readonly sender: Sender
  private readonly listener: WatchListener
  private waiting: Expiring[] = []
  private refreshing = false

  constructor(sender: Sender, listener: WatchListener) {
    this.sender = sender
    this.listener = listener
    this.identity = sender.identity
    this.begin()
  }

  get expired(): boolean {
    const validity = this.identity?.validity ?? null
    return validity !== null && Date.now() >= endsAt(validity)
  }

  /** Whether a client may be told of nothing but that: it shows its token anew with each request. */
  get canRefresh(): boolean {
    return this.sender.canRefresh
  }

  /**
   * Goes on with another token of the same user. Throws UNAUTHORIZED, FORBIDDEN (another user), NOT_READY (no keys), and CONFLICT while another one is
   * being judged.
   */
  async refresh(token: string): Promise<void> {
    const { verifier } = this.sender.identification.options
    if (verifier === null || this.identity === null)
      throw new EvenkeelError('FORBIDDEN', 'there is no token that could be replaced')
    if (this.refreshing) throw new EvenkeelError('CONFLICT', 'one token at a time')
    this.refreshing = true
    try {
      const next = await verifier.verify(token)
      if (next.subject !== this.identity.subject)
        throw new EvenkeelError('FORBIDDEN', 'the token is of another user')
      this.sender.count('refreshed')
      // What a hook has said stays.
      const { user, subject, claims } = this.identity
      const isTold = user !== subject
      this.identity = isTold ? { ...next, user, claims } : next
      this.stop()
      this.begin()
    } catch (error) {
      if (error instanceof TokenRefused) this.sender.count(error.outcome)
      throw error
    } finally {
      this.refreshing = false
    }
  }

  /** As `refresh`, for a connection that is closed when the token is not taken. */
  async refreshOrEnd(token: string): Promise<void> {
    try {
      await this.refresh(token)
    } catch (error) {
      if (!(error instanceof EvenkeelError)) throw error
      // The one before still counts.
      if (error.code === 'NOT_READY') return
      this.stop()
      this.listener.over(closeCodeOf(error), clipCloseReason(error.message))
    }
  }

  /** The connection is gone. */
  stop(): void {
    for (const one of this.waiting) this.sender.identification.expiries.remove(one)
    this.waiting = []
  }

  private begin(): void {
    const validity = this.identity?.validity ?? null
    if (validity === null) return
    const { expiries } = this.sender.identification
    this.waiting.push(expiries.add(endsAt(validity), () => this.end()))
    const { listener } = this
    if (listener.ask !== undefined && this.canRefresh)
      this.waiting.push(expiries.add(askAt(Date.now(), validity), () => listener.ask!()))
  }

  private end(): void {
    this.stop()
    this.sender.count('expired')
    this.listener.over(CloseCode.unauthorized, expiredReason)
  }
}

/** The code with which clients hear of it that see no status. */
export function closeCodeOf({ code }: EvenkeelError): number {
  if (code === 'NOT_READY') return CloseCode.tryAgainLater
  return code === 'FORBIDDEN' ? CloseCode.forbidden : CloseCode.unauthorized
}

/** null: nobody asks who clients are. */
export function watchSender(request: IncomingMessage, listener: WatchListener): Watch | null {
  const sender = senderOf(request)
  return sender === null ? null : new Watch(sender, listener)
}
