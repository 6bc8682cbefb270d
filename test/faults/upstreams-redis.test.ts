import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { loadScript } from '../../src/cluster/redis-script.ts'
import type { SharedUpstreams, StoredUpstreams } from '../../src/cluster/upstreams.ts'
import { joinRedisInTest, randomPrefix } from '../support/clusters.ts'
import { Recorder } from '../support/recorder.ts'
import { RedisServer } from '../support/redis.ts'

let server: RedisServer
beforeAll(async () => {
  server = await RedisServer.start()
})
afterAll(async () => await server?.stop())

function watch(upstreams: SharedUpstreams): Recorder<StoredUpstreams> {
  const recorder = new Recorder<StoredUpstreams>()
  onTestFinished(upstreams.watch(recorder.add))
  return recorder
}

const a = { id: 'a', pool: 'legacy', url: 'http://10.0.0.1:3000', weight: 1 }
const drain = { deadlineMs: 60_000, ratePerSecond: null }

test('while Redis is away the list holds; when it comes back empty it gets all of it again, and what was wished meanwhile', async () => {
  const prefix = randomPrefix()
  const one = await joinRedisInTest(server.url, { prefix })
  const two = await joinRedisInTest(server.url, { prefix })
  const seen = [watch(one.upstreams), watch(two.upstreams)]
  await one.upstreams.add(a)
  await two.upstreams.add({ ...a, id: 'b' })
  one.upstreams.set('a', { drain })
  const complete = ({ upstreams, settings }: StoredUpstreams) =>
    upstreams.size === 2 && settings.get('a')?.drain !== undefined
  for (const recorder of seen) await recorder.until((items) => items.some(complete))
  const before = seen.map(({ items }) => items.length)

  await server.kill()
  await expect.poll(() => two.upstreams.status().ready, { timeout: 20_000 }).toBe(false)
  await expect(two.upstreams.add({ ...a, id: 'c' })).rejects.toMatchObject({ code: 'NOT_READY' })
  await expect(two.upstreams.remove('a')).rejects.toMatchObject({ code: 'NOT_READY' })
  two.upstreams.set('b', { weight: 5 })
  expect(seen[1]!.items.at(-1)!.settings.get('b')).toEqual({ weight: 5 })
  await server.restart()
  await seen[0]!.until((items) => items.at(-1)!.settings.get('b')?.weight === 5)

  const late = await joinRedisInTest(server.url, { prefix })
  const seenLate = watch(late.upstreams)
  await seenLate.until((items) => items.some((one) => complete(one) && one.settings.get('b')?.weight === 5))
  // Nobody was told meanwhile that an upstream or an order is gone.
  for (const [index, { items }] of seen.entries()) {
    for (const content of items.slice(before[index]! - 1)) expect(complete(content)).toBe(true)
  }
  expect([one, two].flatMap(({ problems }) => problems.items)).toEqual([])
})

test('who takes the whole list away by hand is believed', async () => {
  const prefix = randomPrefix()
  const one = await joinRedisInTest(server.url, { prefix })
  const seen = watch(one.upstreams)
  await one.upstreams.add(a)
  await seen.until((items) => items.at(-1)!.upstreams.size === 1)
  await server.command('DEL', `${prefix}{upstreams}:entries`)
  await seen.until((items) => items.at(-1)!.upstreams.size === 0)
})

test('what is far too large or too much stays in Redis', async () => {
  const tag = `${randomPrefix()}{upstreams}:`
  const keys = [`${tag}entries`, `${tag}settings`, `${tag}lineage`]
  const read = () =>
    server.command('EVAL', loadScript('upstreams-read').lua, 3, ...keys, '', 1_000, 4_000, 1_024)
  await server.command('HSET', keys[0]!, 'large', 'x'.repeat(1024 * 1024), 'small', '{}')
  expect(((await read()) as unknown[]).slice(1)).toEqual(['', 0, ['large', '', 'small', '{}'], []])
  const many = Array.from({ length: 10_001 }, (_, n) => [`id-${n}`, '{}']).flat()
  await server.command('HSET', keys[0]!, ...many)
  expect(((await read()) as unknown[]).slice(1)).toEqual(['', 10_003, [], []])
})
