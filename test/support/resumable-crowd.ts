import { type Faults, noFaults } from './ledger.ts'
import { defaultMix, type Mix } from './ledger-client.ts'
import { createRandom, type Random } from './random.ts'
import { type Attempt, ResumableClient } from './resumable-client.ts'
import { noRoomFaults, type Published, type RoomFaults } from './resumable-room.ts'
import { until, type Waiting } from './until.ts'

export interface ResumableCrowdOptions {
  url: string
  /** Tells this crowd's clients from those of others. */
  name: string
  clients: number
  /** Of all clients together. */
  messagesPerSecond: number
  seed: number
  mix?: Partial<Mix>
  /** Every so manieth client takes its time; none by default. */
  lazyEvery?: number
  /** Each client joins `roomsEach` of them. */
  rooms?: string[]
  roomsEach?: number
}

/** What the test knows of the channels. */
export interface RoomTruth {
  published: Record<string, Published>
  /** When the store lost its data. */
  lossesAt: number[]
}

/** All clients together. */
export interface ResumableVerdict extends Faults {
  clients: number
  /** Connected now. */
  open: number
  closed: string[]
  /** Sessions that could not be resumed, by reason. */
  notRecovered: Record<string, number>
  rejected: Record<string, number>
  /** Sends of which the application never heard. */
  unsettled: number
  sent: number
  committed: number
  outputs: number
  /** By redelivery. */
  repeated: number
  /** Clients whose last count is not the number of their messages. */
  wrongCounts: number
  resumes: number
  disconnects: Record<string, number>
  rooms: RoomFaults & { messages: number; continuous: number; gaps: number }
  notes: string[]
}

const connectAtOnce = 50
const pacerMs = 10
/** Far longer than any pause of the service. */
const silenceMs = 8_000
/** A client waits for answers beyond this, so that an overloaded machine is not buried. */
const outstandingMax = 20
const notesMax = 20

/** Many clients of the library under an even load of random messages. */
export class ResumableCrowd {
  readonly clients: ResumableClient[] = []
  private readonly options: ResumableCrowdOptions
  private readonly mix: Mix
  private readonly random: Random
  private readonly looks = new Set<() => void>()
  private pacer: NodeJS.Timeout | null = null
  private lookDue = false
  private changedAt = 0

  private constructor(options: ResumableCrowdOptions) {
    this.options = options
    this.mix = { ...defaultMix, ...options.mix }
    this.random = createRandom(options.seed)
  }

  static async connect(options: ResumableCrowdOptions): Promise<ResumableCrowd> {
    const crowd = new ResumableCrowd(options)
    while (crowd.clients.length < options.clients) {
      for (let i = Math.min(connectAtOnce, options.clients - crowd.clients.length); i > 0; i--) crowd.join()
      await crowd.until(() => crowd.clients.every((client) => client.open && client.joined), {
        what: 'everyone connected and in all channels',
      })
    }
    return crowd
  }

  get answered(): number {
    return this.clients.reduce((sum, { ledger }) => sum + ledger.answered, 0)
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
      for (; due >= 1; due--) {
        const client = this.random.pick(this.clients)
        if (client.ledger.outstanding < outstandingMax) client.sendMixed(this.mix)
      }
    }, pacerMs)
  }

  stopSending(): void {
    if (this.pacer !== null) clearInterval(this.pacer)
    this.pacer = null
  }

  /** Looks after whatever happens to a client. */
  until(condition: () => boolean, waiting?: Waiting): Promise<void> {
    return until(condition, this.looks, waiting)
  }

  async answers(count: number): Promise<void> {
    const wanted = this.answered + count
    await this.until(() => this.answered >= wanted, { what: `${count} answers` })
  }

  /** Everyone sends one more message and is answered over an open connection. Returns after how many milliseconds. */
  async fence(timeoutMs: number): Promise<number[]> {
    const startedAt = performance.now()
    const stuck: ResumableClient[] = []
    const waits = this.clients.map(async (client) => {
      const { ledger } = client
      client.send()
      const wanted = ledger.answered + ledger.outstanding
      const passed = () => client.open && (ledger.answered >= wanted || client.ledger !== ledger)
      await this.until(passed, { timeoutMs }).catch(() => stuck.push(client))
      return performance.now() - startedAt
    })
    const times = await Promise.all(waits)
    if (stuck.length > 0)
      throw new Error(`no answer after ${timeoutMs} ms: ${stuck.map(describe).join('; ')}`)
    return times
  }

  /** What was tried since `from`, on the machine's clock: one list for each client. */
  attempts(from: number): Attempt[][] {
    return this.clients.map(({ attempts }) => attempts.filter(({ helloAt }) => helloAt >= from))
  }

  /**
   * Sends no more and waits for all answers, then for those of one last message from everyone: what comes twice comes
   * before that. Gives up when nothing comes any more, because what is missing is for the verdict to say.
   */
  async settle(): Promise<void> {
    this.stopSending()
    const answered = () =>
      this.clients.every(({ ledger, pending }) => ledger.outstanding === 0 && pending === 0)
    if (!(await this.unlessSilent(answered))) return
    for (const client of this.clients) client.send()
    await this.unlessSilent(answered)
  }

  /** Everyone has these messages, or later ones, of its channels. */
  async roomsReach(numbers: Readonly<Record<string, number>>): Promise<void> {
    const reached = () =>
      this.clients.every(({ rooms }) => [...rooms].every(([name, { last }]) => last >= numbers[name]!))
    await this.until(reached, { what: 'channels to deliver' })
  }

  /** Everyone has the last message of each of its channels. Gives up as `settle` does. */
  async roomsEnd(published: RoomTruth['published']): Promise<void> {
    await this.unlessSilent(() =>
      this.clients.every(({ rooms }) =>
        [...rooms].every(([name, { last }]) => last >= published[name]!.last),
      ),
    )
  }

  verdict({ published, lossesAt }: RoomTruth): ResumableVerdict {
    const verdict: ResumableVerdict = {
      ...noFaults,
      clients: this.clients.length,
      open: this.clients.filter(({ open }) => open).length,
      closed: [],
      notRecovered: {},
      rejected: {},
      unsettled: 0,
      sent: 0,
      committed: 0,
      outputs: 0,
      repeated: 0,
      wrongCounts: 0,
      resumes: 0,
      disconnects: {},
      rooms: { ...noRoomFaults, messages: 0, continuous: 0, gaps: 0 },
      notes: [],
    }
    for (const client of this.clients) {
      addClient(verdict, client)
      addLedger(verdict, client)
      for (const [name, book] of client.rooms) {
        const { notes, ...room } = book.verdict(published[name]!, lossesAt)
        for (const key of Object.keys(room) as (keyof typeof room)[]) verdict.rooms[key] += room[key]
        note(verdict, client, notes)
      }
    }
    return verdict
  }

  /** Of all messages and of all resumes so far, in milliseconds. */
  times(): { answerMs: number[]; awayMs: number[] } {
    return {
      answerMs: this.clients.flatMap(({ answerMs }) => answerMs),
      awayMs: this.clients.flatMap(({ awayMs }) => awayMs),
    }
  }

  close(): void {
    this.stopSending()
    for (const client of this.clients) client.close()
  }

  /** False when nothing has happened to anybody for a while and the condition does not hold yet. */
  private async unlessSilent(condition: () => boolean): Promise<boolean> {
    this.changedAt = performance.now()
    const watch = setInterval(() => this.look(), 500)
    const silent = () => performance.now() - this.changedAt > silenceMs
    await this.until(() => condition() || silent(), { timeoutMs: 2 ** 31 - 1 })
    clearInterval(watch)
    return condition()
  }

  private join(): void {
    const { name, url, seed, rooms = [], roomsEach = 0, lazyEvery = Number.POSITIVE_INFINITY } = this.options
    const random = createRandom(seed + this.clients.length + 1)
    this.clients.push(
      new ResumableClient({
        name: `${name}${this.clients.length + 1}`,
        url,
        rooms: random.sample(rooms, roomsEach),
        random,
        lazy: this.clients.length % lazyEvery === lazyEvery - 1,
        changed: () => this.changed(),
      }),
    )
  }

  /** Many things happen in one turn of the event loop; one look is enough for them. */
  private changed(): void {
    if (this.lookDue) return
    this.lookDue = true
    setImmediate(() => {
      this.lookDue = false
      this.changedAt = performance.now()
      this.look()
    })
  }

  private look(): void {
    for (const look of [...this.looks]) look()
  }
}

function describe({ name, session, open, ledger, pending, resumes, closedWith }: ResumableClient): string {
  const { sent, answered, outputs, notes } = ledger.verdict()
  const books = { open, resumes, sent, answered, outputs, pending, closedWith, notes }
  return `${name} of session ${session} ${JSON.stringify(books)}`
}

function addClient(verdict: ResumableVerdict, client: ResumableClient): void {
  const { closedWith } = client
  if (closedWith !== null) verdict.closed.push(`${client.name}: ${closedWith.code} ${closedWith.reason}`)
  for (const { reason } of client.lost) addCounts(verdict.notRecovered, { [reason]: 1 })
  addCounts(verdict.rejected, client.rejected)
  addCounts(verdict.disconnects, client.disconnects)
  verdict.unsettled += client.pending
  verdict.committed += client.committed
  verdict.resumes += client.resumes
}

/** What became of the messages of a session that was lost, its client has heard. Nothing else may be wrong with them. */
function addLedger(verdict: ResumableVerdict, client: ResumableClient): void {
  const present = client.ledger.verdict()
  const former = client.lost.map(({ verdict: one }) => ({
    ...one,
    lost: one.lost - (one.sent - one.answered),
  }))
  for (const ledger of [...former, present]) {
    for (const key of Object.keys(noFaults) as (keyof Faults)[]) verdict[key] += ledger[key]
    for (const key of ['sent', 'outputs', 'repeated'] as const) verdict[key] += ledger[key]
    const lost = ledger.lost === 0 ? [] : [`lost: ${ledger.lost} of ${ledger.sent}`]
    note(verdict, client, [...ledger.notes, ...lost])
  }
  if (present.count !== present.sent) verdict.wrongCounts++
}

function note(verdict: ResumableVerdict, { name, session }: ResumableClient, notes: readonly string[]): void {
  for (const text of notes)
    if (verdict.notes.length < notesMax) verdict.notes.push(`${name} (${session}): ${text}`)
}

export function addCounts(sum: Record<string, number>, counts: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + count
}
