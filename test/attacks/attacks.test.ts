import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { NumberedClient } from '../support/numbered-client.ts'
import { RedisServer } from '../support/redis.ts'
import { openThreats } from './inside.ts'
import type { Held } from './memory-hook.ts'
import { otherUser } from './redis.ts'
import { type AttackedGateway, startAttacked } from './stage.ts'
import { isAnswer, type Threat } from './threat.ts'
import { threats } from './threats.ts'

const triesAtOnce = 2
/** All at once would be a test of the machine. */
const threatsAtOnce = 6
/** Far more than anything needs, because a busy machine is no failure. */
const timeoutMs = 120_000
/** What a gateway may have kept of all attacks together, once they are over: in objects and buffers … */
const usedGrowthKib = 16 * 1024
/** … and of what V8 and malloc keep for later, after it has been warmed up by them. */
const residentGrowthKib = 128 * 1024

describe('a gateway with tokens and a Redis', () => {
  let redis: RedisServer
  let gateway: AttackedGateway
  let before: Held

  beforeAll(async () => {
    redis = await RedisServer.start()
    await redis.command('ACL', 'SETUSER', otherUser.name, 'on', `>${otherUser.password}`, ...otherUser.rules)
    gateway = await startAttacked({
      redis: redis.url,
      tokens: { node: 'the-node-token', admin: 'the-admin-token' },
    })
    before = await gateway.held()
  })

  afterAll(async () => {
    await gateway?.close()
    await redis?.stop()
  })

  test(
    'every attack gets its documented answer, and good clients notice nothing',
    async () => {
      const good = await goodClients(gateway)
      const left = [...threats]
      const lane = async () => {
        for (let threat = left.shift(); threat !== undefined; threat = left.shift())
          await tryOut(threat, gateway)
      }
      await Promise.all(Array.from({ length: threatsAtOnce }, lane))
      await judge(good)
    },
    timeoutMs,
  )

  test('no secret is in the log, nor an error of the gateway', () => {
    expect(gateway.errors()).toEqual([])
    const log = readFileSync(gateway.logFile, 'utf8')
    expect(gateway.secrets.size).toBeGreaterThan(10)
    expect([...gateway.secrets].filter((secret) => log.includes(secret))).toEqual([])
    expect(log).toContain('gateway ready')
  })

  test('and what they took is given back', async () => {
    await expect.poll(() => gateway.clients(), { timeout: 20_000 }).toBe(0)
    const after = await gateway.held()
    expect(after.usedKib - before.usedKib).toBeLessThan(usedGrowthKib)
    expect(after.rssKib - before.rssKib).toBeLessThan(residentGrowthKib)
  })
})

test('a gateway without tokens answers no web page', async () => {
  const gateway = await startAttacked({})
  onTestFinished(() => gateway.close())
  await Promise.all(openThreats.map((threat) => tryOut(threat, gateway)))
})

async function tryOut(threat: Threat, gateway: AttackedGateway): Promise<void> {
  const tries = Array.from({ length: triesAtOnce }, () =>
    threat.attack(gateway.target).catch((error: Error) => `failed: ${error.message}`),
  )
  for (const got of await Promise.all(tries))
    if (!isAnswer(threat, got)) expect.soft(got, threat.name).toEqual(threat.answer)
}

async function goodClients({ wsUrl }: AttackedGateway): Promise<NumberedClient[]> {
  const clients = await Promise.all(Array.from({ length: 10 }, () => NumberedClient.connect(wsUrl)))
  for (const client of clients) client.stream(2)
  return clients
}

async function judge(clients: readonly NumberedClient[]): Promise<void> {
  for (const client of clients) {
    await client.finish()
    expect(client.verify()).toEqual([])
    expect(client.others).toEqual([])
  }
}
