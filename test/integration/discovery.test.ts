import { expect, onTestFinished, test } from 'vitest'
import { discoverGateways } from '../../src/sdk/discovery.ts'
import { gatewayEntry, joinRedisInTest } from '../support/clusters.ts'
import { Recorder } from '../support/recorder.ts'
import { RedisServer } from '../support/redis.ts'

test('an address is given up when the last gateway at it is gone', async () => {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  const at = (port: number) => `ws://127.0.0.1:${port}`
  const announce = async (id: string, internalUrl: string) => {
    const member = await joinRedisInTest(redis.url, { prefix: 'evenkeel:' })
    await member.registry.announce(gatewayEntry(id, { internalUrl }))
    return member
  }
  const heard = new Recorder<string>()
  const discovery = await discoverGateways({
    redis: redis.url,
    node: { id: 'a', pool: 'default', instance: 'instance-of-a' },
    joined: (url) => heard.add(`joined ${url}`),
    left: (url) => heard.add(`left ${url}`),
    warn() {},
  })
  onTestFinished(() => discovery.close())

  // As after a kill -9: the gateway that follows is there while the lease of the former one still runs.
  const former = await announce('gw-1', at(1))
  const successor = await announce('gw-2', at(1))
  await heard.until((all) => all.length === 2)
  await former.registry.withdraw()
  await announce('gw-3', at(2))
  await heard.until((all) => all.includes(`joined ${at(2)}`))
  expect(heard.items).not.toContain(`left ${at(1)}`)

  await successor.registry.withdraw()
  await heard.until((all) => all.includes(`left ${at(1)}`))
})
