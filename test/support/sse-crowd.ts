import { setTimeout as pause } from 'node:timers/promises'
import { EventSource } from 'eventsource'
import { type Faults, Ledger, noFaults } from './ledger.ts'
import { type Ask, type Output, padOf } from './ledger-message.ts'
import { createRandom, type Random } from './random.ts'
import { until, type Waiting } from './until.ts'

export interface SseVerdict extends Faults {
  /** Whose EventSource has given up. */
  closed: number
  notRecovered: string[]
  /** `gap` events. */
  gaps: number
  sent: number
  answered: number
  repeated: number
  resumes: number
  /** Posts by the last status that was no 202; 0 for a broken connection. */
  retried: Record<string, number>
  notes: string[]
}

/** No answer is worth waiting for that long. */
const postMs = 10_000
const retryMs = 50

/** A real EventSource that posts numbered messages, one after the other, and keeps a ledger of what comes back. */
export class SseLedgerClient {
  readonly name: string
  readonly ledger = new Ledger()
  readonly notRecovered: string[] = []
  readonly retried: Record<string, number> = {}
  /** Of its session; '' before the first event. */
  session = ''
  resumes = 0
  gaps = 0
  sending = false
  private token = ''
  private readonly url: string
  private readonly source: EventSource
  private readonly random: Random
  private readonly changed: () => void
  private stopped = false
  private readonly padBytes = new Map<number, number>()

  constructor(name: string, url: string, random: Random, changed: () => void) {
    this.name = name
    this.url = url
    this.random = random
    this.changed = changed
    this.source = new EventSource(url)
    this.source.addEventListener('session', ({ data }) => this.welcomed(data))
    this.source.addEventListener('gap', () => this.gaps++)
    this.source.addEventListener('message', ({ data }) => this.hear(data))
    this.source.addEventListener('binary', ({ data }) => this.hear(Buffer.from(data, 'base64').toString()))
    this.source.addEventListener('error', changed)
  }

  get open(): boolean {
    return this.source.readyState === EventSource.OPEN
  }

  get closed(): boolean {
    return this.source.readyState === EventSource.CLOSED && !this.stopped
  }

  /** Posts until told to stop. */
  async run(slowMs: number): Promise<void> {
    this.sending = true
    while (this.sending) {
      await this.send({ ms: this.random.int(0, slowMs), pushes: this.random.int(0, 2) })
      await pause(this.random.int(0, slowMs))
    }
  }

  /** Resolves when the message is committed. */
  async send(ask: Partial<Ask> = {}): Promise<void> {
    const n = this.ledger.send()
    const padBytes = this.random.int(0, 200)
    this.padBytes.set(n, padBytes)
    const body = JSON.stringify({ n, ms: 0, pushes: 0, ...ask, pad: padOf(this.name, n, padBytes) })
    // Which kind the outputs are is as the message was.
    const type = this.random.chance(0.3) ? 'application/octet-stream' : 'application/json'
    while (!this.stopped) {
      const status = await this.post(body, type, `${this.session}-${n}`)
      if (status === 202) return
      this.retried[status] = (this.retried[status] ?? 0) + 1
      await pause(retryMs)
    }
  }

  close(): void {
    this.stopped = true
    this.sending = false
    this.source.close()
  }

  /** 0: nobody knows what became of it. */
  private async post(body: string, type: string, key: string): Promise<number> {
    const headers = {
      authorization: `Bearer ${this.token}`,
      'content-type': type,
      'idempotency-key': key,
    }
    try {
      const signal = AbortSignal.timeout(postMs)
      const response = await fetch(`${this.url}/${this.session}`, { method: 'POST', body, headers, signal })
      await response.arrayBuffer()
      return response.status
    } catch {
      return 0
    }
  }

  private welcomed(data: string): void {
    const { session, token, recovered, reason } = JSON.parse(data) as {
      session: string
      token: string
      recovered: boolean | null
      reason: string | null
    }
    if (recovered === true) this.resumes++
    if (recovered === false) this.notRecovered.push(`${this.name}: ${reason}`)
    this.session = session
    this.token = token
    this.changed()
  }

  private hear(text: string): void {
    const output = JSON.parse(text) as Output
    const padBytes = this.padBytes.get(output.n)
    if (output.kind === 'echo' && padBytes !== undefined) {
      if (output.pad !== padOf(this.name, output.n, padBytes))
        this.ledger.corrupt(`pad of message ${output.n}`)
      this.padBytes.delete(output.n)
    }
    this.ledger.hear(output)
    this.changed()
  }
}

/** Many of them. */
export class SseCrowd {
  readonly clients: SseLedgerClient[] = []
  private readonly looks = new Set<() => void>()
  private running: Promise<void>[] = []

  static async connect(url: string, count: number, seed: number): Promise<SseCrowd> {
    const crowd = new SseCrowd()
    for (let i = 1; i <= count; i++)
      crowd.clients.push(new SseLedgerClient(`s${i}`, url, createRandom(seed + i), crowd.look))
    await crowd.until(() => crowd.clients.every(({ session }) => session !== ''), { what: 'all sessions' })
    return crowd
  }

  startSending(slowMs: number): void {
    this.running = this.clients.map((client) => client.run(slowMs))
  }

  get resumes(): number {
    return this.clients.reduce((sum, { resumes }) => sum + resumes, 0)
  }

  until(condition: () => boolean, waiting?: Waiting): Promise<void> {
    return until(condition, this.looks, waiting)
  }

  /** So many more messages of everyone are answered. */
  async answers(each: number, timeoutMs = 40_000): Promise<void> {
    const wanted = new Map(this.clients.map((client) => [client, client.ledger.answered + each]))
    const isAnswered = () => [...wanted].every(([{ ledger }, count]) => ledger.answered >= count)
    await this.until(isAnswered, { what: `${each} answers for everyone`, timeoutMs })
  }

  /** Sends no more but one last message each, and waits for all answers; what comes twice comes before that. */
  async settle(): Promise<void> {
    for (const client of this.clients) client.sending = false
    await Promise.all(this.running)
    await Promise.all(this.clients.map((client) => client.send()))
    const isOver = () => this.clients.every(({ ledger, open }) => open && ledger.outstanding === 0)
    // What is missing is for the verdict to say.
    await this.until(isOver, { timeoutMs: 15_000 }).catch(() => {})
  }

  verdict(): SseVerdict {
    const verdict: SseVerdict = {
      ...noFaults,
      closed: 0,
      notRecovered: [],
      gaps: 0,
      sent: 0,
      answered: 0,
      repeated: 0,
      resumes: this.resumes,
      retried: {},
      notes: [],
    }
    for (const client of this.clients) {
      const one = client.ledger.verdict()
      for (const key of [
        'lost',
        'doubled',
        'reordered',
        'miscounted',
        'corrupted',
        'sent',
        'answered',
        'repeated',
      ] as const)
        verdict[key] += one[key]
      verdict.closed += client.closed ? 1 : 0
      verdict.gaps += client.gaps
      verdict.notRecovered.push(...client.notRecovered)
      verdict.notes.push(...one.notes.map((note) => `${client.name} (${client.session}): ${note}`))
      for (const [status, count] of Object.entries(client.retried))
        verdict.retried[status] = (verdict.retried[status] ?? 0) + count
    }
    return verdict
  }

  close(): void {
    for (const client of this.clients) client.close()
  }

  private readonly look = (): void => {
    for (const look of [...this.looks]) look()
  }
}
