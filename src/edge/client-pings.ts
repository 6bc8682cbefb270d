import { WebSocket } from 'ws'
import { CloseCode } from '../protocol/close-codes.ts'

/** A client that is told to leave and does not is cut after this time. */
const leaveMs = 1_000
const windowMs = 1_000

interface Pings {
  since: number
  /** Since then. */
  count: number
  /** What the next answer repeats; null: all are answered. */
  last: Buffer | null
  isAnswering: boolean
}

/**
 * Answers the pings of clients, and closes who pings more often than anybody needs. A turn's pings get one answer, the last one's,
 * and none while an answer is still to be sent (RFC 6455 §5.5.3): each answer costs a write.
 */
export class ClientPings {
  private readonly perSecond: number
  /** Most clients never ping. */
  private readonly pings = new WeakMap<WebSocket, Pings>()
  private due: WebSocket[] = []

  /** `perSecond`: pings that a client may send in a second. */
  constructor(perSecond: number) {
    this.perSecond = perSecond
  }

  /** Takes what the socket, made with `autoPong: false`, is pinged with. */
  watch(ws: WebSocket): void {
    ws.on('ping', (data) => this.pinged(ws, data))
  }

  private pinged(ws: WebSocket, data: Buffer): void {
    const pings = this.pingsOf(ws)
    const now = performance.now()
    if (now - pings.since >= windowMs) {
      pings.since = now
      pings.count = 0
    }
    if (++pings.count > this.perSecond) {
      leave(ws)
      return
    }
    if (pings.last === null && !pings.isAnswering) this.dueSoon(ws)
    pings.last = data
  }

  private pingsOf(ws: WebSocket): Pings {
    const known = this.pings.get(ws)
    if (known !== undefined) return known
    const made = { since: Number.NEGATIVE_INFINITY, count: 0, last: null, isAnswering: false }
    this.pings.set(ws, made)
    return made
  }

  private dueSoon(ws: WebSocket): void {
    if (this.due.push(ws) === 1) setImmediate(this.answerAll)
  }

  private readonly answerAll = (): void => {
    const { due } = this
    this.due = []
    for (const ws of due) this.answer(ws, this.pings.get(ws)!)
  }

  private answer(ws: WebSocket, pings: Pings): void {
    const { last } = pings
    if (last === null || ws.readyState !== WebSocket.OPEN) return
    pings.last = null
    pings.isAnswering = true
    ws.pong(last, false, () => {
      pings.isAnswering = false
      this.answer(ws, pings)
    })
  }
}

function leave(ws: WebSocket): void {
  // A flood goes on in what was read with it.
  ws.removeAllListeners('ping')
  ws.close(CloseCode.policy, 'too many pings')
  setTimeout(() => ws.terminate(), leaveMs).unref()
}
