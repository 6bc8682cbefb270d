import { expect, test } from 'vitest'
import type { Delivery } from '../../src/sdk/types.ts'
import { u32s } from '../support/link-wire.ts'
import { createRandom, type Random, testSeed } from '../support/random.ts'
import { type BenchLink, SdkBench } from '../support/sdk-bench.ts'

const seed = testSeed('sdk-resume-random')

/**
 * One session whose client loses gateway after gateway. The application numbers what it does: message n makes the outputs
 * `na` and `nb`, between which it may wait, and the state n. What the client and each gateway see must fit that.
 */
class Walk {
  private readonly bench: SdkBench
  private readonly random: Random
  private readonly atomic: boolean
  private link: BenchLink
  private term = 1
  private readonly number = 7
  private gateways = 1
  private token = tokenOf(0)
  private tokens = 0
  private attempt = 0
  private quiescing = false
  private readonly settle: (() => void)[] = []

  /** What the client has sent, has got (in order), and has acknowledged. */
  private sent = 0
  private readonly got: string[] = []
  private acked = 0
  /** What the present gateway knows to be committed, and what it holds until the commit. */
  private committed = 0
  private held: string[] = []

  constructor(delivery: Delivery, random: Random) {
    this.random = random
    this.atomic = delivery === 'atomic'
    this.bench = new SdkBench(delivery)
    this.bench.onMessage = async (session, _data, seq) => {
      session.send(`${seq}a`)
      if (random.chance(0.5)) await new Promise<void>((resolve) => this.settle.push(resolve))
      session.state = seq
      session.send(`${seq}b`)
    }
    this.link = this.bench.link({ instance: 'g1' })
    this.link.open({ credit: 12 })
    this.link.keep({}, [this.token])
  }

  async step(): Promise<void> {
    const steps = [this.message, this.message, this.settleOne, this.turn, this.turn, this.acknowledge]
    steps.push(this.handOver, this.loseGateway)
    await this.random.pick(steps).call(this)
  }

  /** Everything is handled and has arrived. */
  async finish(): Promise<void> {
    if (this.quiescing) this.callOff()
    for (let i = 0; i < 10 * this.sent + 10 && this.committed < this.sent; i++) {
      await this.settleOne()
      await this.turn()
      this.acked = this.got.length
      this.read(this.link.acked(this.at, this.acked))
    }
    await this.turn()
    const numbers = Array.from({ length: this.sent }, (_, i) => i + 1)
    expect(this.got).toEqual(numbers.flatMap((n) => [`${n}a`, `${n}b`]))
    expect(this.bench.messages).toEqual(numbers.map((n) => `m${n}`))
    expect([this.committed, this.held]).toEqual([this.sent, []])
  }

  private get at() {
    return { number: this.number, term: this.term }
  }

  private message(): void {
    this.read(this.link.message(this.at, ++this.sent))
  }

  private async settleOne(): Promise<void> {
    this.settle.shift()?.()
    await new Promise(setImmediate)
  }

  private async turn(): Promise<void> {
    await new Promise(setImmediate)
    this.read(this.link.answers())
  }

  private acknowledge(): void {
    this.acked = this.random.int(this.acked, this.got.length)
    this.read(this.link.acked(this.at, this.acked))
  }

  private handOver(): void {
    if (this.quiescing) {
      this.callOff()
      return
    }
    this.quiescing = true
    this.read(this.link.on('quiesce', this.at, u32s([++this.attempt])))
  }

  private callOff(): void {
    this.quiescing = false
    this.read(this.link.on('resume', this.at, u32s([this.attempt])))
  }

  /** The client goes to another gateway; what the one before has not read is lost. */
  private async loseGateway(): Promise<void> {
    const before = this.link
    if (this.random.chance(0.5)) before.lose()
    if (this.random.chance(0.5)) await this.settleOne()
    this.quiescing = false
    this.held = []
    this.link = this.bench.link({ instance: `g${++this.gateways}` })
    const next = tokenOf(++this.tokens)
    expect(this.link.seek(this.token, next)).toEqual([`FOUND {"seek":1,"term":${this.term},"live":true}`])
    this.token = next
    this.term += this.random.int(1, 3)
    const [taken, ...rest] = this.link.take({ ...this.at, out: this.got.length, credit: 12 })
    const [, ack, state = '0'] = /^TAKEN \S+ (\d+) s \[\](?: (\d+))?$/.exec(taken!)!
    expect([ack, Number(ack) >= this.committed]).toEqual([state, true])
    this.committed = Number(ack)
    this.read(rest)
    for (let seq = this.committed + 1; seq <= this.sent; seq++) this.read(this.link.message(this.at, seq))
  }

  /** What the gateway and the client make of the node's records. */
  private read(answers: string[]): void {
    for (const answer of answers) {
      const [kind, , ...rest] = answer.split(' ')
      if (kind === 'OUTPUT') {
        const isHeld = rest[0] === 'held'
        const [seq, text] = isHeld ? rest.slice(1) : rest
        expect(Number(seq)).toBe(this.got.length + this.held.length + 1)
        if (isHeld) this.held.push(text!)
        else this.got.push(text!)
      } else if (kind === 'COMMIT') {
        this.committed = Number(rest[0])
        if (rest[1] !== undefined) expect(rest[1]).toBe(rest[0])
        this.got.push(...this.held.splice(0))
        // With `atomic` the client has what is committed, and nothing else.
        if (this.atomic) expect(this.got).toHaveLength(2 * this.committed)
      } else {
        expect(['FIN', 'KEPT']).toContain(kind)
      }
    }
  }
}

function tokenOf(n: number): string {
  return String(n).padStart(43, 't')
}

test.each(['stream', 'atomic'] as const)(
  '%s: whatever gateways are lost, each message is handled once and each output arrives once',
  async (delivery) => {
    for (let run = 0; run < 60; run++) {
      const walk = new Walk(delivery, createRandom(seed + run))
      for (let i = 0; i < 80; i++) await walk.step()
      await walk.finish()
    }
  },
)
