import { WebSocket } from 'ws'
import { backoffMs } from '../../core/backoff.ts'
import type { ClientsReport } from './clients-messages.ts'
import { Ledger, type Verdict } from './ledger.ts'

const periodMs = 500
/** Longer than the gateway takes to notice a silent node, so that a recovery is no loss. */
const overdueMs = 10_000
/** Nobody goes on talking for ever without an answer. */
const unansweredMax = 100

type Totals = Omit<ClientsReport, 'connected'>

/** One person talking: a message every half second or so, over a connection that comes back when it closes. */
export class DemoClient {
  private readonly name: string
  private readonly urls: readonly string[]
  private readonly totals: Totals
  private socket: WebSocket | null = null
  private ledger: Ledger | null = null
  private connections = 0
  private attempts = 0
  private failures = 0

  /**
   * It connects to the first URL, and to the next one each time that fails or ends.
   * `totals` are shared by all clients; what closed connections leave behind is added there.
   */
  constructor(name: string, urls: readonly string[], totals: Totals) {
    this.name = name
    this.urls = urls
    this.totals = totals
  }

  get connected(): boolean {
    return this.ledger !== null
  }

  /** What is wrong with the conversation that is under way. */
  verdict(nowMs: number): Verdict | null {
    return this.ledger?.verdict(nowMs) ?? null
  }

  connect(): void {
    const url = this.urls[this.attempts++ % this.urls.length]!
    const socket = new WebSocket(url, { perMessageDeflate: false, handshakeTimeout: 10_000 })
    this.socket = socket
    socket.on('open', () => this.opened())
    socket.on('message', (data) => {
      this.totals.answered++
      this.ledger?.answer(data.toString())
    })
    // 'close' follows.
    socket.on('error', () => {})
    socket.on('close', () => this.closed())
  }

  private opened(): void {
    this.failures = 0
    this.ledger = new Ledger({ name: `${this.name}.${++this.connections}`, overdueMs })
    this.talkLater(this.ledger, Math.random() * periodMs)
  }

  private talkLater(ledger: Ledger, inMs: number): void {
    setTimeout(() => {
      if (this.ledger !== ledger) return
      if (ledger.waiting < unansweredMax) {
        this.socket!.send(ledger.ask(performance.now()))
        this.totals.sent++
      }
      this.talkLater(ledger, periodMs * (0.75 + Math.random() / 2))
    }, inMs)
  }

  private closed(): void {
    if (this.ledger !== null) {
      addVerdict(this.totals, this.ledger.end())
      this.totals.closed++
      this.ledger = null
    }
    setTimeout(() => this.connect(), backoffMs(this.failures++, Math.random))
  }
}

export function addVerdict(totals: Verdict, verdict: Verdict): void {
  totals.lost += verdict.lost
  totals.doubled += verdict.doubled
  totals.reordered += verdict.reordered
}
