import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { RunLogs } from '../../src/cluster/run-log.ts'
import type { RawEntry } from '../../src/core/run/entry.ts'
import type { EndEvent, FailEvent } from '../../src/core/run/events.ts'
import { origin } from '../../src/core/run/offset.ts'
import { joinMany, type World } from './worlds.ts'

const leaseMs = 150
const limits = {
  runLeaseMs: leaseMs,
  runLogBytes: 400,
  runTtlMs: 400,
  runKeyMs: 400,
  runIdleMs: 20_000,
  runLossesMost: 3,
}
const bounds = { depthMost: 3, ageMsMost: 10_000 }
const lane = 'pool/name'
const cancelled: EndEvent = { type: 'end', reason: 'cancelled' }
const failed: FailEvent = { type: 'fail', code: 'QUEUED_TOO_LONG', message: 'm', retryable: true }
let runs = 0

/** The rules of logs and queues, for every kind of cluster. */
export function runLogContract(world: World): void {
  async function join(count: number): Promise<RunLogs[]> {
    return (await joinMany(world.createCluster(limits), count)).map((member) => member.runs)
  }

  async function created(logs: RunLogs): Promise<string> {
    const run = `run-${++runs}`
    await logs.create(run, { lane, requestJson: '{"a":"\\u2028"}' })
    return run
  }

  const entry = (epoch: number, first: number, ...texts: string[]): RawEntry => ({
    epoch,
    first,
    count: texts.length,
    json: JSON.stringify(texts),
  })
  const claim = (logs: RunLogs, run: string, holder = 'a', epoch: number | null = null, onLoss = 'auto') =>
    logs.claim(run, { holder, job: 'j', epoch, onLoss: onLoss as 'auto' })
  const append = (logs: RunLogs, run: string, added: RawEntry, more = {}) =>
    logs.append(run, { holder: 'a', entry: added, effects: false, terminal: null, ...more })
  const end = (logs: RunLogs, run: string, epoch: number, seq: number) =>
    append(logs, run, { epoch, first: seq, count: 1, json: '[{"type":"end"}]' }, { terminal: 'complete' })
  const ids = (entries: readonly RawEntry[]) =>
    entries.map(({ epoch, first, count }) => `${epoch}-${first}+${count}`)

  test('a label leads to the run that it was given last, for all', async () => {
    const [a, b] = await join(2)
    expect(await a!.labelled('chat')).toBe(null)
    await a!.label('chat', 'run-a')
    await b!.label('chat', 'run-b')
    await a!.label('other', 'run-a')
    expect(await a!.labelled('chat')).toBe('run-b')
    expect(await b!.labelled('other')).toBe('run-a')
  })

  test('a run is made, claimed, appended to, read and ended', async () => {
    const [a, b] = await join(2)
    const run = await created(a!)
    await a!.create(run, { lane: 'other/lane', requestJson: 'null' })
    expect(await a!.read(run, origin, 1_000)).toMatchObject({
      status: 'queued',
      lane,
      head: origin,
      entries: [],
      more: false,
      leaseLeftMs: 0,
    })
    expect(await claim(a!, run)).toEqual({
      result: 'claimed',
      epoch: 1,
      base: null,
      requestJson: '{"a":"\\u2028"}',
      trace: null,
      queuedMs: expect.any(Number),
    })
    expect(await append(a!, run, entry(1, 1, 'x', 'é🙂'))).toEqual({ result: 'appended', seq: 2 })
    expect(await append(a!, run, entry(1, 3, 'z'))).toEqual({ result: 'appended', seq: 3 })
    expect(await end(a!, run, 1, 4)).toEqual({ result: 'appended', seq: 4 })
    const page = (await b!.read(run, origin, 1_000))!
    expect(page).toMatchObject({
      status: 'ended',
      outcome: 'complete',
      head: { epoch: 1, seq: 4 },
      more: false,
    })
    expect(ids(page.entries)).toEqual(['1-0+1', '1-1+2', '1-3+1', '1-4+1'])
    expect(page.entries.map(({ json }) => json)).toEqual([
      '[{"type":"fence","epoch":1,"resume":"restart","base":"0-0"}]',
      '["x","é🙂"]',
      '["z"]',
      '[{"type":"end"}]',
    ])
    expect(await a!.read('nobody', origin, 1_000)).toBeNull()
  })

  test('the append rule', async () => {
    const [logs] = await join(1)
    const run = await created(logs!)
    expect(await append(logs!, 'nobody', entry(1, 1, 'x'))).toEqual({ result: 'missing', seq: 0 })
    expect((await append(logs!, run, entry(1, 1, 'x'))).result).toBe('hole')
    await claim(logs!, run)
    await append(logs!, run, entry(1, 1, 'x', 'y'))
    expect(await append(logs!, run, entry(1, 1, 'x', 'y'))).toEqual({ result: 'duplicate', seq: 2 })
    expect(await append(logs!, run, entry(1, 2, 'y', 'z'))).toEqual({ result: 'overlap', seq: 2 })
    expect(await append(logs!, run, entry(1, 4, 'z'))).toEqual({ result: 'hole', seq: 2 })
    expect((await append(logs!, run, entry(2, 1, 'z'))).result).toBe('hole')
    expect((await append(logs!, run, entry(1, 3, 'z'), { holder: 'b' })).result).toBe('fenced')
    await claim(logs!, run, 'a', 1)
    expect((await append(logs!, run, entry(1, 3, 'z'))).result).toBe('fenced')
    await append(logs!, run, entry(2, 1, 'x'))
    await end(logs!, run, 2, 2)
    expect(await end(logs!, run, 2, 2)).toEqual({ result: 'duplicate', seq: 2 })
    expect((await append(logs!, run, entry(2, 1, 'x'))).result).toBe('duplicate')
    expect((await append(logs!, run, entry(2, 2, 'x'))).result).toBe('ended')
    expect((await append(logs!, run, entry(2, 3, 'x'))).result).toBe('ended')
  })

  test('a log has a bound, which does not keep it from ending', async () => {
    const [logs] = await join(1)
    const run = await created(logs!)
    await claim(logs!, run)
    expect((await append(logs!, run, entry(1, 1, 'x'.repeat(300)))).result).toBe('appended')
    expect(await append(logs!, run, entry(1, 2, 'x'.repeat(300)))).toEqual({ result: 'full', seq: 1 })
    expect((await end(logs!, run, 1, 2)).result).toBe('appended')
  })

  test('only a lease that has ended lets another gateway claim; the former one is fenced off', async () => {
    const [a, b] = await join(2)
    const run = await created(a!)
    await claim(a!, run, 'a')
    expect(await claim(b!, run, 'b')).toEqual({ result: 'held' })
    expect(await a!.renew(run, 'a', 1)).toBe(true)
    expect(await b!.renew(run, 'b', 1)).toBe(false)
    await append(a!, run, entry(1, 1, 'x'))
    await delay(leaseMs + 20)
    expect((await b!.read(run, origin, 1))!.leaseLeftMs).toBeLessThan(0)
    expect(await claim(b!, run, 'b')).toMatchObject({ result: 'claimed', epoch: 2, base: null })
    expect((await append(a!, run, entry(1, 2, 'y'))).result).toBe('fenced')
    expect(await a!.renew(run, 'a', 1)).toBe(false)
    // What the restart made invalid is passed over.
    const page = (await a!.read(run, { epoch: 1, seq: 1 }, 1_000))!
    expect(ids(page.entries)).toEqual(['2-0+1'])
    expect(page.start).toEqual({ epoch: 2, seq: 0 })
  })

  test.each([
    ['continue', false, { result: 'claimed', epoch: 2, base: { epoch: 1, seq: 2 } }],
    ['restart', true, { result: 'claimed', epoch: 2, base: null }],
    ['auto', false, { result: 'claimed', epoch: 2, base: null }],
    ['auto', true, { result: 'failed' }],
    ['fail', false, { result: 'failed' }],
  ] as const)('loss with onLoss %s, effects %s', async (onLoss, effects, expected) => {
    const [logs] = await join(1)
    const run = await created(logs!)
    await claim(logs!, run, 'a', null, onLoss)
    await append(logs!, run, entry(1, 1, 'x'))
    await append(logs!, run, entry(1, 2, 'y'), { effects })
    expect(await claim(logs!, run, 'a', 1, onLoss)).toMatchObject(expected)
    const page = (await logs!.read(run, origin, 1_000))!
    expect(page.status).toBe(expected.result === 'failed' ? 'ended' : 'running')
    if (expected.result === 'failed') {
      expect(page.outcome).toBe('failed')
      expect(JSON.parse(page.entries.at(-1)!.json)).toMatchObject([{ code: 'PRODUCER_LOST', base: '1-2' }])
      expect(ids(page.entries.slice(-1))).toEqual(['2-0+1'])
    }
  })

  test('an attempt that made nothing is no loss to anybody, and a continued one keeps its base', async () => {
    const [logs] = await join(1)
    const run = await created(logs!)
    await claim(logs!, run, 'a', null, 'fail')
    expect(await claim(logs!, run, 'a', 1, 'continue')).toMatchObject({
      result: 'claimed',
      epoch: 2,
      base: null,
    })
    await append(logs!, run, entry(2, 1, 'x'))
    expect(await claim(logs!, run, 'a', 2, 'continue')).toMatchObject({ base: { epoch: 2, seq: 1 } })
    expect(await claim(logs!, run, 'a', 3, 'continue')).toMatchObject({
      epoch: 4,
      base: { epoch: 2, seq: 1 },
    })
    // So many losses are enough.
    expect(await claim(logs!, run, 'a', 4, 'continue')).toEqual({ result: 'failed' })
  })

  test('an attempt goes on by way of another gateway', async () => {
    const [a, b] = await join(2)
    const run = await created(a!)
    await claim(a!, run, 'a', null, 'continue')
    await append(a!, run, entry(1, 1, 'x'))
    expect(await b!.attach(run, 'b', 1)).toEqual({
      seq: 1,
      job: 'j',
      onLoss: 'continue',
      lane,
      requestJson: '{"a":"\\u2028"}',
      trace: null,
      touched: true,
      effects: false,
    })
    expect(await b!.attach(run, 'b', 2)).toBeNull()
    expect((await append(a!, run, entry(1, 2, 'y'))).result).toBe('fenced')
    expect(await claim(a!, run, 'a', 1)).toEqual({ result: 'held' })
    expect((await append(b!, run, entry(1, 2, 'y'), { holder: 'b' })).result).toBe('appended')
  })

  test('a run that was lost is made anew, and one that is there is not', async () => {
    const [logs] = await join(1)
    const run = `run-${++runs}`
    const revived = { lane, requestJson: '1', holder: 'a', job: 'j2', onLoss: 'restart', epoch: 5 } as const
    expect(await logs!.revive(run, revived)).toBe(true)
    expect(await logs!.revive(run, revived)).toBe(false)
    expect((await append(logs!, run, entry(5, 1, 'x'))).result).toBe('appended')
    const page = (await logs!.read(run, { epoch: 4, seq: 9 }, 1_000))!
    expect(ids(page.entries)).toEqual(['5-0+1', '5-1+1'])
    expect(page).toMatchObject({ status: 'running', start: { epoch: 5, seq: 0 }, lane })
    expect(await claim(logs!, run, 'a', 5)).toMatchObject({ epoch: 6, requestJson: '1' })
  })

  test('what a run continues stays with it, whoever makes it', async () => {
    const [a, b] = await join(2)
    const trace = {
      traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`,
      tracestate: 'x=1',
      isLink: true,
    }
    const run = `run-${++runs}`
    await a!.create(run, { lane, requestJson: '1', trace })
    expect(await claim(b!, run, 'b')).toMatchObject({ trace })
    expect(await a!.attach(run, 'a', 1)).toMatchObject({ trace })
    expect(await claim(a!, run, 'a', 1)).toMatchObject({ epoch: 2, trace })
    const lost = `run-${++runs}`
    await a!.revive(lost, {
      lane,
      requestJson: '1',
      trace,
      holder: 'a',
      job: 'j',
      onLoss: 'restart',
      epoch: 5,
    })
    expect(await claim(a!, lost, 'a', 5)).toMatchObject({ epoch: 6, trace })
  })

  test('a run that was given up is queued again', async () => {
    const [logs] = await join(1)
    const run = await created(logs!)
    await claim(logs!, run)
    expect(await logs!.release(run, 'b', 1, false)).toBe(false)
    expect(await logs!.release(run, 'a', 1, false)).toBe(true)
    expect((await append(logs!, run, entry(1, 1, 'x'))).result).toBe('fenced')
    expect((await logs!.read(run, origin, 1))!.status).toBe('queued')
    expect(await claim(logs!, run, 'b')).toMatchObject({ epoch: 2 })
    // What was lost counts, whoever had it.
    for (let epoch = 2; epoch < 5; epoch++) {
      expect(await logs!.release(run, 'b', epoch, true)).toBe(true)
      expect(await claim(logs!, run, 'b')).toMatchObject({ epoch: epoch + 1 })
    }
    await logs!.release(run, 'b', 5, true)
    expect(await claim(logs!, run, 'b')).toEqual({ result: 'failed' })
  })

  test('a run is ended from outside, under a condition', async () => {
    const [logs] = await join(1)
    const run = await created(logs!)
    expect((await logs!.finish('nobody', cancelled, 'live')).result).toBe('missing')
    expect((await logs!.finish(run, failed, 'lapsed')).result).toBe('kept')
    await claim(logs!, run)
    expect(await logs!.finish(run, failed, 'queued')).toMatchObject({ result: 'kept', holder: 'a' })
    expect((await logs!.finish(run, failed, 'lapsed')).result).toBe('kept')
    expect((await logs!.finish(run, failed, 2)).result).toBe('kept')
    expect(await logs!.finish(run, cancelled, 'live')).toEqual({
      result: 'finished',
      lane,
      job: 'j',
      holder: 'a',
    })
    expect((await logs!.finish(run, cancelled, 'live')).result).toBe('ended')
    expect((await append(logs!, run, entry(1, 1, 'x'))).result).toBe('ended')
    expect(await claim(logs!, run)).toEqual({ result: 'ended' })
    const queued = await created(logs!)
    expect((await logs!.finish(queued, failed, 'queued')).result).toBe('finished')
    const page = (await logs!.read(queued, origin, 1_000))!
    expect(ids(page.entries)).toEqual(['1-0+1'])
    expect(JSON.parse(page.entries[0]!.json)).toEqual([{ ...failed, base: '0-0' }])
    expect(page).toMatchObject({ outcome: 'failed', head: { epoch: 1, seq: 0 } })
    const lapsed = await created(logs!)
    await claim(logs!, lapsed)
    await delay(leaseMs + 20)
    expect((await logs!.finish(lapsed, failed, 'lapsed')).result).toBe('finished')
  })

  test('pages have a bound, and an entry can be begun in its middle', async () => {
    const [logs] = await join(1)
    const run = await created(logs!)
    await claim(logs!, run)
    for (let i = 0; i < 40; i++) await append(logs!, run, entry(1, 2 * i + 1, `${i}`.padStart(2), '-'))
    const found: string[] = []
    let pages = 0
    for (let after = { epoch: 1, seq: 0 }; ; pages++) {
      const page = (await logs!.read(run, after, 100))!
      found.push(...page.entries.map(({ json }) => json))
      const last = page.entries.at(-1)!
      after = { epoch: last.epoch, seq: last.first + last.count - 1 }
      expect(page.entries.reduce((sum, { json }) => sum + json.length, 0)).toBeLessThanOrEqual(100)
      if (!page.more) break
    }
    expect(found).toHaveLength(40)
    expect(new Set(found).size).toBe(40)
    expect(pages).toBeGreaterThanOrEqual(3)
    expect(ids((await logs!.read(run, { epoch: 1, seq: 3 }, 1))!.entries)).toEqual(['1-3+2'])
  })

  test('who follows a run hears of its entries', async () => {
    const [a, b] = await join(2)
    const run = await created(a!)
    const heard: RawEntry[] = []
    let wake = () => {}
    await b!.follow(run, (one) => {
      heard.push(one)
      wake()
    })
    await claim(a!, run)
    await append(a!, run, entry(1, 1, 'x y\n', 'z'))
    await end(a!, run, 1, 3)
    while (heard.length < 3) await new Promise<void>((resolve) => (wake = resolve))
    expect(ids(heard)).toEqual(['1-0+1', '1-1+2', '1-3+1'])
    expect(heard[1]!.json).toBe('["x y\\n","z"]')
    await b!.unfollow(run)
  })

  test('a key names one run for a time, and an ended run is forgotten after a time', async () => {
    const [a, b] = await join(2)
    const first = { run: 'r1', hash: 'h1' }
    expect(await a!.name(lane, 'k y', first)).toMatchObject(first)
    expect(await b!.name(lane, 'k y', { run: 'r2', hash: 'h2' })).toMatchObject(first)
    expect(await b!.name('other/lane', 'k y', { run: 'r2', hash: 'h2' })).toMatchObject({ run: 'r2' })
    const run = await created(a!)
    await claim(a!, run)
    await end(a!, run, 1, 1)
    await expect.poll(() => a!.read(run, origin, 1), { timeout: 5_000 }).toBeNull()
    expect(await b!.name(lane, 'k y', { run: 'r3', hash: 'h3' })).toMatchObject({ run: 'r3' })
  })

  describe('queue', () => {
    test('gives each run out once, in order, and says when too many wait', async () => {
      const [a, b] = (await join(2)).map(({ queues }) => queues)
      expect(await a!.take(lane, 5)).toEqual([])
      for (const run of ['r1', 'r2', 'r3']) expect((await a!.add(lane, run, bounds)).job).not.toBeNull()
      expect(await a!.add(lane, 'r4', bounds)).toMatchObject({ job: null, depth: 3 })
      expect((await b!.take(lane, 2)).map(({ run }) => run)).toEqual(['r1', 'r2'])
      expect((await a!.take(lane, 2)).map(({ run }) => run)).toEqual(['r3'])
      expect(await a!.take('other/lane', 2)).toEqual([])
      expect((await a!.add(lane, 'r4', bounds)).job).not.toBeNull()
      await delay(20)
      expect(await a!.add(lane, 'r5', { depthMost: 3, ageMsMost: 5 })).toMatchObject({ job: null, depth: 1 })
    })

    test('gives out again what nobody speaks of, and not what is done', async () => {
      const [a, b] = (await join(2)).map(({ queues }) => queues)
      for (const run of ['r1', 'r2', 'r3']) await a!.add(lane, run, bounds)
      const [one, two] = await a!.take(lane, 3)
      await a!.done(lane, one!.job)
      await delay(leaseMs)
      await a!.beat(lane, [two!.job])
      expect((await b!.takeOverdue(lane, leaseMs - 20, 5)).map(({ run }) => run)).toEqual(['r3'])
      expect(await b!.takeOverdue(lane, leaseMs - 20, 5)).toEqual([])
      await delay(leaseMs)
      expect(await b!.takeOverdue(lane, leaseMs - 20, 1)).toHaveLength(1)
    })

    test('takes a run back, and tells those who watch', async () => {
      const [a, b] = (await join(2)).map(({ queues }) => queues)
      let hints = 0
      let wake = () => {}
      b!.watch(lane, () => {
        hints++
        wake()
      })
      await a!.add(lane, 'r1', bounds)
      await a!.add(lane, 'r2', bounds)
      const [job] = await a!.take(lane, 1)
      for (const until = Date.now() + 5_000; hints === 0 && Date.now() < until; ) {
        a!.hint(lane)
        await Promise.race([delay(50), new Promise<void>((resolve) => (wake = resolve))])
      }
      expect(hints).toBeGreaterThan(0)
      await a!.putBack(lane, job!.job, 'r1')
      expect((await b!.take(lane, 5)).map(({ run }) => run)).toEqual(['r2', 'r1'])
      expect(await b!.takeOverdue(lane, 0, 5)).toHaveLength(2)
    })
  })
}
