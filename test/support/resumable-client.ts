import { setTimeout as pause } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { connect, type EvenkeelClient, type SendError, type SessionEvent } from '../../client/index.ts'
import { Ledger, type Verdict } from './ledger.ts'
import type { Mix } from './ledger-client.ts'
import { type Ask, type Output, padOf } from './ledger-message.ts'
import type { Random } from './random.ts'
import { RoomBook } from './resumable-room.ts'

const lazyChance = 0.1
const lazyMsMost = 600

/** A time on the machine's monotonic clock, which all processes share, in microseconds. */
export function machineTime(): number {
  return Number(process.hrtime.bigint() / 1000n)
}

export interface ResumableClientOptions {
  name: string
  url: string
  /** Channels that its node lets it join. */
  rooms: readonly string[]
  random: Random
  /** Takes its time for some outputs; until then these and all behind them are not acknowledged. */
  lazy?: boolean
  /** After whatever came, went or ended. */
  changed(client: ResumableClient): void
}

/** An attempt to resume: the frames of the client, and what came of it. */
export interface Attempt {
  helloAt: number
  welcomedAt: number | null
  recovered: boolean | null
}

/** A client of the library that numbers what it sends and keeps books of all that comes back. */
export class ResumableClient {
  readonly name: string
  /** Id of its session; '' before the first welcome. */
  session = ''
  readonly rooms: ReadonlyMap<string, RoomBook>
  /** Of the present session. */
  ledger = new Ledger()
  /** Of sessions that could not be resumed. */
  readonly lost: { session: string; reason: string; verdict: Verdict }[] = []
  attempts: Attempt[] = []
  /** Milliseconds between a message and its echo. */
  readonly answerMs: number[] = []
  /** Milliseconds between the loss of a connection and the welcome of the next one. */
  readonly awayMs: number[] = []
  readonly disconnects: Record<string, number> = {}
  /** Sends that were given up, by code and outcome. */
  readonly rejected: Record<string, number> = {}
  committed = 0
  /** Sends of which the application has not heard. */
  pending = 0
  resumes = 0
  closedWith: { code: number; reason: string } | null = null
  private readonly options: ResumableClientOptions
  private readonly library: EvenkeelClient
  private readonly sent = new Map<number, { padBytes: number; at: number }>()
  private lostAt: number | null = null

  constructor(options: ResumableClientOptions) {
    const { name, url, rooms } = options
    this.options = options
    this.name = name
    this.rooms = new Map(rooms.map((room) => [room, new RoomBook(room)]))
    const target = rooms.length === 0 ? url : `${url}?channels=${rooms.join(',')}`
    this.library = connect(target, { WebSocket: this.socketClass(), random: () => options.random.next() })
    this.listen()
  }

  get open(): boolean {
    return this.library.state === 'open'
  }

  /** It has heard of each of its channels. */
  get joined(): boolean {
    return [...this.rooms.values()].every(({ known }) => known)
  }

  sendMixed(mix: Mix): void {
    const { random } = this.options
    const slow = random.chance(mix.slowShare)
    const pushing = random.chance(mix.pushShare)
    const large = random.chance(mix.largeShare)
    const ask = {
      ms: slow ? random.int(1, mix.slowMs) : 0,
      pushes: pushing ? random.int(1, mix.pushesMax) : 0,
    }
    const padBytes = large ? mix.largePadBytes : random.int(0, mix.padBytesMax)
    this.send(ask, padBytes, random.chance(mix.binaryShare))
  }

  send(ask: Partial<Omit<Ask, 'n' | 'pad'>> = {}, padBytes = 0, binary = false): void {
    const n = this.ledger.send()
    this.sent.set(n, { padBytes, at: performance.now() })
    const text = JSON.stringify({ n, ms: 0, pushes: 0, ...ask, pad: padOf(this.name, n, padBytes) })
    this.pending++
    this.library.send(binary ? Buffer.from(text) : text).then(
      () => this.settled(() => this.committed++),
      (error: SendError) => this.settled(() => count(this.rejected, `${error.code} ${error.outcome}`)),
    )
  }

  close(): void {
    this.library.close()
  }

  private listen(): void {
    const { library } = this
    library.on('message', (data) => {
      this.hear(data)
      const { lazy = false, random } = this.options
      return lazy && random.chance(lazyChance) ? pause(random.int(1, lazyMsMost)) : undefined
    })
    library.on('channel', (message) => {
      this.rooms.get(message.channel)?.hear(message)
      this.options.changed(this)
    })
    library.on('verdict', (verdict) => {
      this.rooms.get(verdict.channel)?.judge(verdict, machineTime())
      this.options.changed(this)
    })
    library.on('session', (event) => this.welcomed(event))
    library.on('disconnect', ({ code, reason }) => {
      count(this.disconnects, reason === '' ? `${code}` : `${code} ${reason}`)
      this.lostAt ??= performance.now()
      this.options.changed(this)
    })
    library.on('close', (end) => {
      this.closedWith = end
      this.options.changed(this)
    })
  }

  private hear(data: string | Uint8Array): void {
    const text = typeof data === 'string' ? data : Buffer.from(data).toString()
    const output = JSON.parse(text) as Output
    if (output.kind === 'echo') {
      const sent = this.sent.get(output.n)
      if (sent !== undefined) {
        if (output.pad !== padOf(this.name, output.n, sent.padBytes))
          this.ledger.corrupt(`pad of message ${output.n}`)
        if (this.options.lazy !== true) this.answerMs.push(performance.now() - sent.at)
      }
      this.sent.delete(output.n)
    }
    this.ledger.hear(output)
    this.options.changed(this)
  }

  private welcomed({ id, recovered, reason }: SessionEvent): void {
    const attempt = this.attempts.at(-1)!
    attempt.welcomedAt = machineTime()
    attempt.recovered = recovered
    if (recovered === true) this.resumes++
    if (this.lostAt !== null) this.awayMs.push(performance.now() - this.lostAt)
    this.lostAt = null
    if (recovered === false) {
      this.lost.push({ session: this.session, reason: String(reason), verdict: this.ledger.verdict() })
      this.ledger = new Ledger()
      this.sent.clear()
    }
    this.session = id
    this.options.changed(this)
  }

  private settled(note: () => void): void {
    this.pending--
    note()
    this.options.changed(this)
  }

  /** Hello is the first frame of a connection. */
  private socketClass() {
    const said = () => this.attempts.push({ helloAt: machineTime(), welcomedAt: null, recovered: null })
    return class extends WebSocket {
      private silent = true

      constructor(url: string, protocols: string[]) {
        super(url, protocols, { perMessageDeflate: false })
      }

      override send(data: string | Uint8Array): void {
        if (this.silent) said()
        this.silent = false
        super.send(data)
      }
    }
  }
}

function count(counts: Record<string, number>, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1
}
