import { setImmediate } from 'node:timers/promises'
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, onTestFinished, test } from 'vitest'
import { RedisLink } from '../../src/cluster/redis-link.ts'
import { parseRedisUrls } from '../../src/cluster/redis-url.ts'
import { RedisServer } from '../support/redis.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as (how: object) => void

/** Bytes in what only a collection of all of the heap frees. */
function oldBytes(): number {
  const old = ['old_space', 'large_object_space']
  return getHeapSpaceStatistics()
    .filter((space) => old.includes(space.space_name))
    .reduce((sum, space) => sum + space.space_used_size, 0)
}

test('what was sent and answered is freed with the young generation', async () => {
  const server = await RedisServer.start()
  onTestFinished(() => server.stop())
  const access = parseRedisUrls(server.url)
  const { promise: up, resolve: onUp } = Promise.withResolvers<unknown>()
  const link = new RedisLink({
    endpoint: access.endpoints[0]!,
    access,
    name: 'test',
    commandMs: 5_000,
    inFlightBytes: 1_000_000,
    heartbeatMs: 5_000,
    random: Math.random,
    onUp,
    onDown() {},
  })
  onTestFinished(() => link.close())
  await up
  const kilobytes = 100
  const turn = async (letter: string) => {
    // Written anew each time: what is sent is a string of its own.
    await link.call('SET', ['key', Buffer.alloc(kilobytes * 1024, letter).toString('latin1')])
    await link.call('GET', ['key'])
  }
  for (const letter of 'warm') await turn(letter)
  collect({ type: 'major' })
  const before = oldBytes()
  const letters = 'abcdefghijklmnopqrstuvwxyz'
  for (const letter of letters) {
    await turn(letter)
    // What this turn has on its stack is not free yet.
    await setImmediate()
    collect({ type: 'minor' })
  }
  const kept = (oldBytes() - before) / 1024
  // Those that were on their way may have moved; a large one of them counts in full.
  expect(kept).toBeLessThan((letters.length * kilobytes) / 4)
})
