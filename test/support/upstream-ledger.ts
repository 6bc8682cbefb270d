import { once } from 'node:events'
import { onTestFinished } from 'vitest'
import { WebSocket } from 'ws'
import { until } from './until.ts'
import { startWsUpstream, type WsUpstream } from './upstreams.ts'

/** What all upstreams of a test have received, by client and in order. */
export class UpstreamLedger {
  readonly received = new Map<string, number[]>()

  /** Answers each number of a client with itself, every third from a timer. */
  async start(): Promise<WsUpstream> {
    return startWsUpstream((ws, request) => {
      const client = new URL(request.url!, 'ws://x').searchParams.get('client') ?? ''
      const numbers = this.received.get(client) ?? []
      this.received.set(client, numbers)
      ws.on('message', (data) => {
        const number = Number(data)
        numbers.push(number)
        if (number % 3 === 0) setTimeout(() => ws.send(`a ${number}`), 2)
        else ws.send(`a ${number}`)
      })
    })
  }
}

/** Sends numbers, and keeps what comes back. */
export class NumberedWs {
  readonly ws: WebSocket
  readonly answers: number[] = []
  readonly others: string[] = []
  sent = 0
  closed: { code: number; reason: string } | null = null
  private readonly looks = new Set<() => void>()

  static async connect(url: string): Promise<NumberedWs> {
    const client = new NumberedWs(new WebSocket(url))
    onTestFinished(() => client.ws.terminate())
    await once(client.ws, 'open')
    return client
  }

  constructor(ws: WebSocket) {
    this.ws = ws
    ws.on('message', (data) => {
      const [kind, number] = String(data).split(' ')
      if (kind === 'a') this.answers.push(Number(number))
      else this.others.push(String(data))
      this.look()
    })
    ws.on('close', (code, reason) => {
      this.closed = { code, reason: reason.toString() }
      this.look()
    })
  }

  send(count = 1): void {
    for (let i = 0; i < count; i++) this.ws.send(String(++this.sent))
  }

  until(condition: () => boolean): Promise<void> {
    return until(condition, this.looks)
  }

  private look(): void {
    for (const look of [...this.looks]) look()
  }
}

export function upTo(last: number): number[] {
  return Array.from({ length: last }, (_, i) => i + 1)
}
