import { once } from 'node:events'
import { expect, onTestFinished } from 'vitest'
import { WebSocket } from 'ws'
import type { Reply } from './numbered.ts'
import { until } from './until.ts'

/** A client that sends 1, 2, 3, … and judges what comes back. */
export class NumberedClient {
  readonly ws: WebSocket
  readonly replies: Reply[] = []
  /** Messages that are no replies. */
  readonly others: string[] = []
  sent = 0
  /** The highest number that was answered. */
  answered = 0
  closeCode: number | null = null
  private unansweredMax = 0
  private readonly looks = new Set<() => void>()

  private constructor(ws: WebSocket) {
    this.ws = ws
    ws.on('message', (data) => this.heard(String(data)))
    ws.on('close', (code) => {
      this.closeCode = code
      this.look()
    })
  }

  /** Connects; the connection ends with the test. */
  static async connect(url: string): Promise<NumberedClient> {
    const ws = new WebSocket(url, { perMessageDeflate: false })
    onTestFinished(() => ws.terminate())
    const client = new NumberedClient(ws)
    await once(ws, 'open')
    return client
  }

  send(count = 1): void {
    for (let i = 0; i < count; i++) this.ws.send(String(++this.sent))
  }

  /** Keeps so many messages unanswered, from now on. 0: sends no more by itself. */
  stream(unansweredMax: number): void {
    this.unansweredMax = unansweredMax
    while (this.sent - this.answered < this.unansweredMax) this.send()
  }

  /** Resolves once all was answered that was sent so far, or so many more than now. */
  async answers(more = this.sent - this.answered): Promise<void> {
    const wanted = this.answered + more
    await this.until(() => this.answered >= wanted, `the answer to ${wanted}`)
  }

  /** Ends the stream and waits for its last answer. */
  async finish(): Promise<void> {
    this.stream(0)
    await this.answers()
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    await until(() => condition() || this.closeCode !== null, this.looks, { what })
    expect(this.closeCode, `the client was closed while it waited for ${what}`).toBeNull()
  }

  /**
   * Every message took effect once and in order. Answers repeat only where `repeats` allows it, and then they are marked.
   * Returns the marked ones.
   */
  verify({ repeats = true } = {}): Reply[] {
    expect(this.closeCode).toBeNull()
    expect(this.ws.readyState).toBe(WebSocket.OPEN)
    let highest = 0
    let before = 0
    let term = 0
    for (const reply of this.replies) {
      const isRepeat = reply.n <= highest
      const complaints: [is: boolean, what: string][] = [
        [reply.count !== reply.n, 'did not take effect once and in order'],
        [reply.term < term, `a term that has shrunk from ${term}`],
        [isRepeat && !(repeats && reply.redelivered), 'a repeat that is not allowed, or not marked'],
        [!(isRepeat && reply.term !== term) && reply.n !== before + 1, `does not follow ${before}`],
      ]
      // No `expect` for each: a hundred thousand of them keep the client from its pings for seconds.
      const complaint = complaints.find(([is]) => is)
      if (complaint !== undefined) expect.fail(`${complaint[1]}: ${JSON.stringify(reply)}`)
      highest = Math.max(highest, reply.n)
      before = reply.n
      term = reply.term
    }
    expect(highest).toBe(this.sent)
    return this.replies.filter(({ redelivered }) => redelivered)
  }

  private heard(text: string): void {
    if (text.startsWith('{')) {
      const reply = JSON.parse(text) as Reply
      this.replies.push(reply)
      this.answered = Math.max(this.answered, reply.n)
      if (this.ws.readyState === WebSocket.OPEN) this.stream(this.unansweredMax)
    } else {
      this.others.push(text)
    }
    this.look()
  }

  private look(): void {
    for (const look of [...this.looks]) look()
  }
}
