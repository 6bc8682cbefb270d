import type { Clock, WebSocketLike } from '../../client/index.ts'
import {
  type ClientWelcome,
  encodeClientWelcome,
  parseClientHello,
} from '../../src/protocol/client-frames.ts'

/** Time stands still until the test moves it. */
export class ManualClock implements Clock {
  private time = 1_000
  private readonly timers = new Set<{ at: number; callback: () => void }>()

  now(): number {
    return this.time
  }

  setTimeout(callback: () => void, ms: number): unknown {
    const timer = { at: this.time + ms, callback }
    this.timers.add(timer)
    return timer
  }

  clearTimeout(timer: unknown): void {
    this.timers.delete(timer as { at: number; callback: () => void })
  }

  get running(): number {
    return this.timers.size
  }

  advance(ms: number): void {
    const end = this.time + ms
    for (;;) {
      const [next] = [...this.timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)
      if (next === undefined) break
      this.timers.delete(next)
      this.time = next.at
      next.callback()
    }
    this.time = end
  }
}

/** A WebSocket whose other side is the test. */
export class FakeSocket implements WebSocketLike {
  static all: FakeSocket[] = []
  protocol = 'evenkeel.v1'
  binaryType = 'blob'
  onopen: (() => void) | null = null
  onmessage: ((event: { data: unknown }) => void) | null = null
  onclose: ((event: { code: number; reason: string }) => void) | null = null
  onerror: (() => void) | null = null
  sent: unknown[] = []
  closedWith: number | null = null

  constructor() {
    FakeSocket.all.push(this)
  }

  send(data: unknown): void {
    this.sent.push(data)
  }

  close(code: number): void {
    this.closedWith = code
  }

  say(...frames: string[]): void {
    for (const data of frames) this.onmessage?.({ data })
  }

  open(): void {
    if (this.sent.length === 0) this.onopen?.()
  }

  welcome(change: Partial<ClientWelcome> = {}): void {
    this.open()
    const { resume } = parseClientHello(this.sent.shift() as string)
    this.say(
      encodeClientWelcome({
        session: resume?.session ?? 's1',
        token: 't'.repeat(43),
        recovered: resume === undefined ? null : true,
        reason: null,
        ack: 0,
        last: 0,
        out: resume?.out ?? 0,
        resumeMs: 120_000,
        retryMs: 500,
        messageBytes: 100,
        ...change,
      }),
    )
    if (resume !== undefined) this.sent.shift()
  }

  lose(code = 1006): void {
    this.onclose?.({ code, reason: '' })
  }
}
