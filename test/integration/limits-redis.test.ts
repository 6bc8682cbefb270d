import type { IncomingMessage } from 'node:http'
import { PassThrough } from 'node:stream'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { loadConfig } from '../../src/cli/config.ts'
import { edgeSettings } from '../../src/cli/edge-settings.ts'
import type { ClusterMember } from '../../src/cluster/member.ts'
import { Admission } from '../../src/edge/admission/admission.ts'
import type { Refusal } from '../../src/edge/admission/refusal.ts'
import { type EdgeSettings, targetOf } from '../../src/edge/target.ts'
import { joinRedisInTest, randomPrefix } from '../support/clusters.ts'
import { RedisServer } from '../support/redis.ts'

let redis: RedisServer
beforeAll(async () => {
  redis = await RedisServer.start()
})
afterAll(() => redis.stop())

async function settingsOf(perUser: object): Promise<EdgeSettings> {
  const { config } = await loadConfig({ env: {} })
  const tokens = { nodeToken: null, adminToken: null }
  const rateLimits = { ...config.rateLimits, perUser }
  return edgeSettings({ ...config, rateLimits }, tokens, Buffer.alloc(32), () => null)
}

/** What one gateway lets in of its part of a cluster. */
function gatewayOf(cluster: ClusterMember, settings: EdgeSettings) {
  const refused: Partial<Record<string, number>> = {}
  const gateway = { cluster, pressure: 'normal', now: () => performance.now(), counters: { refused } }
  const admission = new Admission({ gateway: gateway as never, settings: { current: settings } })
  onTestFinished(() => admission.close())
  const ask = async (user: string, url: string, upgrade: boolean): Promise<IncomingMessage> => {
    const request = {
      method: upgrade ? 'GET' : 'POST',
      url,
      headers: {},
      socket: { remoteAddress: '10.0.0.1' },
    }
    const target = {
      ...targetOf(request as never, settings),
      identity: { user, subject: user, claims: {}, validity: null },
    }
    const carrier = Object.assign(new PassThrough(), upgrade ? {} : { setHeader() {}, getHeader() {} })
    admission.admit(request as never, carrier as never, target)
    await admission.admitUser(request as never, carrier as never, target)
    return request as never
  }
  return { admission, refused, ask }
}

type TestedGateway = ReturnType<typeof gatewayOf>

async function twoGateways(perUser: object): Promise<[TestedGateway, TestedGateway]> {
  const [prefix, settings] = [randomPrefix(), await settingsOf(perUser)]
  const join = async () => gatewayOf(await joinRedisInTest(redis.url, { prefix }), settings)
  return [await join(), await join()]
}

/** How many of so many requests were let in, one at each gateway in turn. */
async function admitted(gateways: readonly TestedGateway[], user: string, count: number): Promise<number> {
  let inside = 0
  for (let n = 0; n < count; n++) {
    const asked = gateways[n % gateways.length]!.ask(user, '/sse/session', false)
    inside += await asked.then(
      () => 1,
      (refusal: Refusal) => {
        expect(refusal.code).toBe('TOO_MANY_REQUESTS')
        expect(refusal.retryAfterMs).toBeGreaterThan(0)
        return 0
      },
    )
  }
  return inside
}

test('two gateways count the requests of a user together', async () => {
  const gateways = await twoGateways({ requests: { perSecond: 1, burst: 10 } })
  expect(await admitted(gateways, 'ada', 30)).toBe(10)
  expect(await admitted(gateways, 'bob', 9)).toBe(9)
  expect(gateways.map(({ refused }) => refused['user-requests']).every((count) => count! > 0)).toBe(true)
  // Nobody's name is in Redis.
  const keys = (await redis.command('KEYS', '*limit*')) as string[]
  expect(keys).toHaveLength(2)
  expect(keys.some((key) => /ada|bob/.test(key))).toBe(false)
})

test('two gateways hold a user back who sends too fast at both of them', async () => {
  const gateways = await twoGateways({ messages: { perSecond: 50, burst: 50 } })
  const paces = await Promise.all(
    gateways.map(async ({ ask, admission }) => admission.paceOf(await ask('ada', '/ws', true))!),
  )
  // Each of them within the limit, both together at twice of it.
  const heldBack = [0, 0]
  for (let round = 0; round < 25; round++) {
    for (const [index, pace] of paces.entries())
      for (let n = 0; n < 4; n++) if (pace.take() !== 0) heldBack[index]!++
    await pause(100)
    if (heldBack.every((count) => count > 0)) break
  }
  expect(heldBack.every((count) => count > 0)).toBe(true)
})

test('without Redis each gateway counts for itself, and goes on', async () => {
  const own = await RedisServer.start()
  onTestFinished(() => own.stop())
  const settings = await settingsOf({ requests: { perSecond: 1, burst: 5 } })
  const member = await joinRedisInTest(own.url, { prefix: randomPrefix() })
  const gateway = gatewayOf(member, settings)
  await own.kill()
  await expect.poll(() => member.registry.status().ready, { timeout: 10_000 }).toBe(false)
  expect(await admitted([gateway], 'ada', 12)).toBe(5)
})
