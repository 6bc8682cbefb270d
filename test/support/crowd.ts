import { type Faults, noFaults } from './ledger.ts'
import { defaultMix, LedgerClient, type Mix } from './ledger-client.ts'
import type { Output } from './ledger-message.ts'
import { createRandom, type Random } from './random.ts'
import { until, type Waiting } from './until.ts'

export interface CrowdOptions {
  url: string
  clients: number
  /** Of all clients together. */
  messagesPerSecond: number
  seed: number
  mix?: Partial<Mix>
}

/** All clients together, those that left on purpose included. */
export interface CrowdVerdict extends Faults {
  clients: number
  /** Clients that left on purpose. */
  left: number
  closed: { client: string; code: number; reason: string }[]
  sent: number
  answered: number
  outputs: number
  repeated: number
  notes: string[]
  /** What each client that stayed has counted, by session. */
  counts: Record<string, { sent: number; count: number }>
}

const connectAtOnce = 50
const pacerMs = 5
/** Far longer than any pause of the service. */
const silenceMs = 5_000
/** A client waits for answers beyond this, so that an overloaded machine is not buried. */
const outstandingMax = 40
const notesMax = 20

/** Many ledger clients under an even load of random messages. */
export class Crowd {
  private readonly options: CrowdOptions
  private readonly mix: Mix
  private readonly random: Random
  private readonly members: LedgerClient[] = []
  private readonly gone: LedgerClient[] = []
  private readonly looks = new Set<() => void>()
  private pacer: NodeJS.Timeout | null = null
  private born = 0
  /** Echoes, over all clients. */
  echoes = 0
  onClosed: ((client: LedgerClient, code: number, reason: string) => void) | null = null

  private constructor(options: CrowdOptions) {
    this.options = options
    this.mix = { ...defaultMix, ...options.mix }
    this.random = createRandom(options.seed)
  }

  static async connect(options: CrowdOptions): Promise<Crowd> {
    const crowd = new Crowd(options)
    for (let left = options.clients; left > 0; left -= connectAtOnce)
      await crowd.join(Math.min(left, connectAtOnce))
    return crowd
  }

  get clients(): readonly LedgerClient[] {
    return this.members
  }

  /** More clients, all at once. */
  async join(count: number): Promise<void> {
    const clients = Array.from({ length: count }, () => this.createClient())
    await Promise.all(clients.map((client) => client.opened()))
    this.members.push(...clients)
  }

  startSending(): void {
    if (this.pacer !== null) return
    let due = 0
    let lastAt = performance.now()
    this.pacer = setInterval(() => {
      const now = performance.now()
      // After a pause of this process the load goes on; it does not catch up.
      due += (Math.min(now - lastAt, 100) / 1000) * this.options.messagesPerSecond
      lastAt = now
      for (; due >= 1; due--) this.sendOne()
    }, pacerMs)
  }

  stopSending(): void {
    if (this.pacer !== null) clearInterval(this.pacer)
    this.pacer = null
  }

  /** One message of the mix from every client that is there. */
  sendAll(): void {
    for (const client of this.members) if (client.open) client.sendMixed(this.mix)
  }

  /** Looks after each output and each close. */
  until(condition: () => boolean, waiting?: Waiting): Promise<void> {
    return until(condition, this.looks, waiting)
  }

  /** That many more messages are answered. */
  async answers(count: number, waiting?: Waiting): Promise<void> {
    const wanted = this.echoes + count
    await this.until(() => this.echoes >= wanted, { what: `${count} answers`, ...waiting })
  }

  /** Everyone sends one more message and is answered: no session is stuck. The load goes on. */
  async fence(waiting?: Waiting): Promise<void> {
    const wanted = new Map<LedgerClient, number>()
    for (const client of this.members) {
      if (!client.open) continue
      client.send()
      wanted.set(client, client.ledger.answered + client.ledger.outstanding)
    }
    const passed = () =>
      [...wanted].every(([client, count]) => !client.open || client.ledger.answered >= count)
    await this.until(passed, { what: 'an answer for everyone', ...waiting })
  }

  /**
   * Sends no more and waits for all answers, then for those of one last message from everyone: what comes twice comes
   * before that. Gives up when nothing comes any more, because what is missing is for the verdict to say.
   */
  async settle(): Promise<void> {
    this.stopSending()
    const dismissed = () => this.gone.every((client) => client.closedWith !== null)
    const answered = () => this.members.every((client) => !client.open || client.ledger.outstanding === 0)
    if (!(await this.unlessSilent(dismissed)) || !(await this.unlessSilent(answered))) return
    for (const client of this.members) if (client.open) client.send()
    await this.unlessSilent(answered)
  }

  /**
   * Those clients go away, whatever is in flight: one half by itself and at once, the other half asks its node to close it.
   * As many new ones come.
   */
  async replace(sessions: readonly string[]): Promise<void> {
    const leaving = this.members.filter((client) => client.open && sessions.includes(client.session))
    for (const client of leaving) {
      if (this.random.chance(0.5)) client.leave()
      else client.bye(this.random.int(0, this.mix.slowMs))
      this.members.splice(this.members.indexOf(client), 1)
      this.gone.push(client)
    }
    await this.join(leaving.length)
  }

  verdict(): CrowdVerdict {
    const verdict: CrowdVerdict = {
      ...noFaults,
      clients: this.members.length,
      left: this.gone.length,
      closed: [],
      sent: 0,
      answered: 0,
      outputs: 0,
      repeated: 0,
      notes: [],
      counts: {},
    }
    for (const client of [...this.members, ...this.gone]) this.add(client, verdict)
    return verdict
  }

  close(): void {
    this.stopSending()
    for (const client of [...this.members, ...this.gone]) client.terminate()
  }

  /** False when nobody has been answered for a while and the condition does not hold yet. */
  private async unlessSilent(condition: () => boolean): Promise<boolean> {
    let echoes = this.echoes
    let silent = false
    const watch = setInterval(() => {
      silent = echoes === this.echoes
      echoes = this.echoes
      this.look()
    }, silenceMs)
    await this.until(() => condition() || silent, { timeoutMs: 2 ** 31 - 1 })
    clearInterval(watch)
    return condition()
  }

  private add(client: LedgerClient, verdict: CrowdVerdict): void {
    const one = client.ledger.verdict()
    // Who left on purpose did not wait for its answers.
    const lost = client.left ? one.lost - (one.sent - one.answered) : one.lost
    verdict.lost += lost
    for (const key of [
      'doubled',
      'reordered',
      'miscounted',
      'corrupted',
      'sent',
      'answered',
      'outputs',
      'repeated',
    ] as const)
      verdict[key] += one[key]
    if (client.closedWith !== null && !client.left)
      verdict.closed.push({ client: client.name, ...client.closedWith })
    const notes = lost > 0 ? [...one.notes, `lost: ${lost} of ${one.sent}`] : one.notes
    for (const note of notes) {
      if (verdict.notes.length < notesMax) verdict.notes.push(`${client.name} (${one.session}): ${note}`)
    }
    if (!client.left && one.session !== null)
      verdict.counts[one.session] = { sent: one.sent, count: one.count }
  }

  private createClient(): LedgerClient {
    const name = `c${++this.born}`
    const random = createRandom(this.options.seed + this.born)
    return new LedgerClient(name, this.options.url, random, {
      output: (_client, output) => this.heard(output),
      closed: (client, code, reason) => {
        this.onClosed?.(client, code, reason)
        this.look()
      },
    })
  }

  private heard(output: Output): void {
    if (output.kind === 'echo') this.echoes++
    this.look()
  }

  private look(): void {
    for (const look of [...this.looks]) look()
  }

  private sendOne(): void {
    const client = this.random.pick(this.members)
    const burst = this.random.chance(this.mix.burstShare) ? this.mix.burst : 1
    for (let i = 0; i < burst; i++)
      if (client.open && client.ledger.outstanding < outstandingMax) client.sendMixed(this.mix)
  }
}
