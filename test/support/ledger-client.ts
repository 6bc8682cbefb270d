import { WebSocket } from 'ws'
import { Ledger } from './ledger.ts'
import { type Ask, byeCode, type Output, padOf } from './ledger-message.ts'
import type { Random } from './random.ts'

/** What clients ask for; each share is a probability. */
export interface Mix {
  /** Messages whose handler takes a random time up to `slowMs`. */
  slowShare: number
  slowMs: number
  /** Messages whose handler takes about as long as a hand-over waits: a bit less, or a bit more. */
  stuckShare: number
  stuckMs: { least: number; most: number }
  /** Messages that make up to `pushesMax` outputs before their echo. */
  pushShare: number
  pushesMax: number
  /** Messages sent as bytes; their outputs are bytes too. */
  binaryShare: number
  padBytesMax: number
  /** Messages with a pad of `largePadBytes`. */
  largeShare: number
  largePadBytes: number
  /** Times that a client sends `burst` messages instead of one. */
  burstShare: number
  burst: number
}

export const defaultMix: Readonly<Mix> = {
  slowShare: 0.3,
  slowMs: 40,
  stuckShare: 0,
  stuckMs: { least: 300, most: 300 },
  pushShare: 0.3,
  pushesMax: 3,
  binaryShare: 0.3,
  padBytesMax: 200,
  largeShare: 0.01,
  largePadBytes: 20_000,
  burstShare: 0.1,
  burst: 4,
}

export interface LedgerClientEvents {
  output?(client: LedgerClient, output: Output): void
  /** The connection ended without `leave`. */
  closed?(client: LedgerClient, code: number, reason: string): void
}

/** A real `ws` client that numbers what it sends and keeps a ledger of what comes back. */
export class LedgerClient {
  readonly name: string
  readonly ledger = new Ledger()
  /** Of its session; '' before the first output. */
  session = ''
  left = false
  private dismissed = false
  closedWith: { code: number; reason: string } | null = null
  private readonly socket: WebSocket
  private readonly random: Random
  private readonly events: LedgerClientEvents
  /** Pad of each message that was not echoed yet, as its size. */
  private readonly padBytes = new Map<number, number>()

  constructor(name: string, url: string, random: Random, events: LedgerClientEvents) {
    this.name = name
    this.random = random
    this.events = events
    this.socket = new WebSocket(url, { perMessageDeflate: false })
    this.socket.on('message', (data: Buffer) => this.hear(data))
    this.socket.on('close', (code, reason) => this.closed(code, reason.toString()))
  }

  opened(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.socket.once('open', resolve)
      this.socket.once('error', reject)
    })
  }

  get open(): boolean {
    return !this.left && this.closedWith === null
  }

  sendMixed(mix: Mix): void {
    const { random } = this
    const stuck = random.chance(mix.stuckShare)
    const slow = random.chance(mix.slowShare)
    const pushing = random.chance(mix.pushShare)
    const large = random.chance(mix.largeShare)
    this.send(
      {
        ms: stuck ? random.int(mix.stuckMs.least, mix.stuckMs.most) : slow ? random.int(1, mix.slowMs) : 0,
        pushes: pushing ? random.int(1, mix.pushesMax) : 0,
      },
      large ? mix.largePadBytes : random.int(0, mix.padBytesMax),
      random.chance(mix.binaryShare),
    )
  }

  send(ask: Partial<Omit<Ask, 'n' | 'pad'>> = {}, padBytes = 0, binary = false): void {
    const n = this.ledger.send()
    this.padBytes.set(n, padBytes)
    const text = JSON.stringify({ n, ms: 0, pushes: 0, ...ask, pad: padOf(this.name, n, padBytes) })
    this.socket.send(binary ? Buffer.from(text) : text)
  }

  /** Asks the node to close the session once it has answered all of it. */
  bye(ms: number): void {
    this.dismissed = true
    this.send({ bye: true, ms, pushes: 1 })
  }

  /** Goes away on purpose; what is unanswered then is not lost. */
  leave(): void {
    this.left = true
    this.socket.close(1000, 'leaving')
  }

  /** Like a client that cannot keep up. */
  stopReading(): void {
    this.socket.pause()
  }

  goOnReading(): void {
    this.socket.resume()
  }

  terminate(): void {
    this.left = true
    this.socket.terminate()
  }

  private hear(data: Buffer): void {
    const output = JSON.parse(data.toString()) as Output
    this.session = output.session
    const padBytes = this.padBytes.get(output.n)
    if (output.kind === 'echo' && padBytes !== undefined) {
      if (output.pad !== padOf(this.name, output.n, padBytes))
        this.ledger.corrupt(`pad of message ${output.n}`)
      this.padBytes.delete(output.n)
    }
    this.ledger.hear(output)
    this.events.output?.(this, output)
  }

  private closed(code: number, reason: string): void {
    if (this.dismissed && code === byeCode) {
      this.left = true
      if (this.ledger.outstanding > 0) this.ledger.lose(this.ledger.outstanding, 'closed before the answer')
    }
    this.closedWith = { code, reason }
    if (!this.left) this.events.closed?.(this, code, reason)
  }
}
