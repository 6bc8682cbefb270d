import { expect, test } from 'vitest'
import { MemoryCluster } from '../../../src/cluster/memory.ts'
import type { RunLogs } from '../../../src/cluster/run-log.ts'
import { Cursor } from '../../../src/core/run/cursor.ts'
import { parseEntry } from '../../../src/core/run/entry.ts'
import type { PlacedEvent } from '../../../src/core/run/events.ts'
import { mergeDeltas, Transcript } from '../../../src/core/run/merge.ts'
import { formatOffset, type Offset, origin, parseOffset } from '../../../src/core/run/offset.ts'
import { createRandom, type Random, testSeed } from '../../support/random.ts'

const seed = testSeed('random logs')
const scenarios = 400

/** A producer that makes numbered tokens, and says some of it twice. */
class ZombieProducer {
  epoch = 0
  private made = 0
  private sent = 0
  private readonly logs: RunLogs
  private readonly holder: string
  private base = 0

  constructor(logs: RunLogs, holder: string) {
    this.logs = logs
    this.holder = holder
  }

  begin(epoch: number, known: number): void {
    Object.assign(this, { epoch, made: 0, sent: 0, base: known })
  }

  async act(run: string, random: Random, total: number): Promise<void> {
    if (this.epoch === 0) return
    const left = total - this.base - this.made
    this.made += random.int(0, Math.min(left, 4))
    // From somewhere that may be there already.
    const first = Math.max(1, this.sent + 1 - random.int(0, 2))
    const isEnd = this.base + this.made === total && random.chance(0.3)
    const count = this.made - first + 1
    if (count <= 0 && !isEnd) return
    const items: unknown[] = Array.from({ length: Math.max(0, count) }, (_, i) => `${this.base + first + i},`)
    if (isEnd) items.push({ type: 'end', reason: 'complete' })
    const entry = { epoch: this.epoch, first, count: items.length, json: JSON.stringify(items) }
    const { result } = await this.logs.append(run, {
      holder: this.holder,
      entry,
      effects: false,
      terminal: isEnd ? 'complete' : null,
    })
    if (result === 'appended' || result === 'duplicate') this.sent = this.made
  }
}

test(`${scenarios} random histories of claims, zombies and readers: all readers have the whole text`, async () => {
  const random = createRandom(seed)
  for (let n = 0; n < scenarios; n++) await scenario(random, n)
})

async function scenario(random: Random, n: number): Promise<void> {
  let now = 0
  const cluster = new MemoryCluster({
    now: () => now,
    limits: { runLeaseMs: 100, runLossesMost: 1_000, runTtlMs: 1_000_000_000 },
  })
  const logs = cluster.join().runs
  const run = `r${n}`
  const total = random.int(0, 30)
  const text = Array.from({ length: total }, (_, i) => `${i + 1},`).join('')
  const onLoss = random.pick(['continue', 'restart', 'auto'] as const)
  await logs.create(run, { lane: 'p/n', requestJson: '1' })
  const producers = ['a', 'b', 'c'].map((holder) => ({ holder, producer: new ZombieProducer(logs, holder) }))
  const readers = Array.from({ length: 4 }, () => new ResumingReader(logs, run, random))
  for (let steps = 0; steps < 2_000; steps++) {
    now += random.int(0, 40)
    const { holder, producer } = random.pick(producers)
    if (random.chance(0.15)) {
      const epoch = random.chance(0.5) ? producer.epoch : null
      const answer = await logs.claim(run, { holder, job: 'j', onLoss, epoch: epoch === 0 ? null : epoch })
      if (answer.result === 'claimed') producer.begin(answer.epoch, await knownAt(logs, run, answer.base))
      expect(answer.result).not.toBe('failed')
    } else await producer.act(run, random, total)
    for (const reader of readers) if (random.chance(0.3)) await reader.act()
    if ((await logs.read(run, origin, 1))!.status === 'ended') break
  }
  await logs.finish(run, { type: 'end', reason: 'cancelled' }, 'live')
  const { outcome } = (await logs.read(run, origin, 1))!
  for (const reader of [...readers, new ResumingReader(logs, run, random)]) {
    while (!reader.done) await reader.act()
    if (outcome === 'complete') expect(reader.transcript.text).toBe(text)
    else expect(text.startsWith(reader.transcript.text)).toBe(true)
  }
}

/** How many tokens are valid up to there. */
async function knownAt(logs: RunLogs, run: string, base: Offset | null): Promise<number> {
  if (base === null) return 0
  let known = 0
  for (const entry of (await logs.read(run, origin, 1_000_000))!.entries)
    if (entry.epoch <= base.epoch && entry.first > 0) known += entry.count
  return known
}

/** Reads pages, forgets its cursor now and then, and goes on from the offset that it was given. */
class ResumingReader {
  readonly transcript = new Transcript()
  done = false
  private cursor = new Cursor(null)
  private offset: string | null = null
  private readonly logs: RunLogs
  private readonly run: string
  private readonly random: Random

  constructor(logs: RunLogs, run: string, random: Random) {
    this.logs = logs
    this.run = run
    this.random = random
  }

  async act(): Promise<void> {
    if (this.done) return
    if (this.random.chance(0.3))
      this.cursor = new Cursor(this.offset === null ? null : parseOffset(this.offset))
    const page = (await this.logs.read(this.run, this.cursor.place, this.random.int(1, 60)))!
    const events: PlacedEvent[] = []
    for (const raw of page.entries) {
      const step = this.cursor.take(parseEntry(raw), events)
      if (step !== 'taken' && step !== 'old') throw new Error(`${step} at ${formatOffset(this.cursor.place)}`)
    }
    for (const { offset, event } of this.random.chance(0.5) ? mergeDeltas(events, 20) : events) {
      this.transcript.add(event)
      this.offset = offset
    }
    this.done = this.cursor.done
  }
}
