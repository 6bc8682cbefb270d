import { connect } from 'evenkeel/client'
import { expect, onTestFinished, test } from 'vitest'
import type { ChannelPermission } from '../../src/core/identity/channel-permissions.ts'
import { startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { RawResumableClient } from '../support/raw-resumable-client.ts'
import { authBy, issuerOf } from '../support/tokens.ts'

/** Channels that clients use by themselves, as rules over their claims say (PROTOCOL.md §2.4). */

const permissions: ChannelPermission[] = [
  { match: 'user:{sub}', allow: ['join'] },
  { match: 'room:*', allow: ['join', 'publish'], claims: { role: ['member'] } },
]

async function stage(gateways = 1) {
  const issuer = await issuerOf('HS256')
  const [overrides, tokens] = authBy(issuer)
  const limits = { seekUnlinkedMs: 100 }
  const options = {
    ...overrides,
    limits,
    rebalance: { enabled: false },
    channels: { history: [], permissions },
  }
  const started: TestGateway[] = []
  for (let i = 0; i < gateways; i++) started.push(await startTestGateway(options, tokens))
  const node = await startTestNode(started[0]!, {}, { gateways: started.map(({ linkUrl }) => linkUrl) })
  const open = async (at: number, claims: object, hello = 'h{}') => {
    const offered = [`evenkeel.jwt.${await issuer.sign({ ...claims })}`]
    const client = await RawResumableClient.open(started[at]!.wsUrl, offered)
    client.send(hello)
    return Object.assign(client, { welcome: await client.welcomed() })
  }
  return { issuer, gateways: started, node, open }
}

test('a client joins and publishes where its claims let it, and nowhere else', async () => {
  const { gateways, node, open } = await stage()
  const ada = await open(0, { role: 'member' })
  const eve = await open(0, { sub: 'eve' })
  ada.send('iroom:7')
  ada.send('iuser:ada')
  await ada.frame('v{"channel":"user:ada","verdict":"joined"')
  eve.send('iroom:7')
  eve.send('iuser:ada')
  eve.send('broom:7\nspam')
  eve.send('buser:eve\nspam')
  await eve.frame('v', 4)
  expect(
    eve.frames.filter((frame) => frame.startsWith('v')).map((frame) => JSON.parse(frame.slice(1)).verdict),
  ).toEqual(['denied', 'denied', 'denied', 'denied'])
  ada.send('broom:7\nhello')
  ada.send(Buffer.from('broom:7\nbytes'))
  node.publish('user:ada', 'to you')
  await ada.frame('croom:7\n\nhello')
  await ada.frame('croom:7\n\nbytes')
  await ada.frame('cuser:ada\n\nto you')
  expect(gateways[0]!.operator.channelMembers('room:7')).toBe(1)
  ada.send('oroom:7')
  await expect.poll(() => gateways[0]!.operator.channelMembers('room:7')).toBe(0)
  expect(ada.frames.filter((frame) => frame.includes('spam'))).toEqual([])
  for (const frame of ['i', 'i$plans', 'broom:7', `b${'x'.repeat(300)}\n`]) {
    const bad = await open(0, {})
    bad.send(frame)
    expect((await bad.ended).code).toBe(4100)
  }
})

test('what it has joined by itself goes along to another gateway', async () => {
  const { gateways, node, open } = await stage(2)
  const ada = await open(0, {})
  ada.send('iuser:ada')
  await ada.frame('v{"channel":"user:ada","verdict":"joined"')
  // Behind what the node was told of it.
  node.publish('user:ada', 'one')
  await ada.frame('cuser:ada\n\none')
  const { session, token } = ada.welcome
  const moved = await open(1, {}, `h${JSON.stringify({ resume: { session, token, out: 0, channels: {} } })}`)
  expect(moved.welcome).toMatchObject({ recovered: true })
  await expect.poll(() => gateways[1]!.operator.channelMembers('user:ada')).toBe(1)
})

test('evenkeel/client joins again in each new session', async () => {
  const { issuer, gateways } = await stage()
  const [gateway] = gateways
  const client = connect(gateway!.wsUrl, { token: () => issuer.sign({ role: 'member' }), random: () => 0 })
  onTestFinished(() => client.close())
  const got: unknown[] = []
  const verdicts: string[] = []
  client.on('channel', ({ data }) => void got.push(data))
  client.on('verdict', ({ channel, verdict }) => void verdicts.push(`${channel} ${verdict}`))
  expect(client.publish('room:7', 'nobody')).toBe(false)
  client.join('room:7')
  client.join('staff')
  await expect.poll(() => verdicts).toEqual(['room:7 joined', 'staff denied'])
  expect(client.publish('room:7', 'hello')).toBe(true)
  await expect.poll(() => got).toEqual(['hello'])
  gateway!.operator.closeSession(client.session!, 4000, 'begin anew')
  await expect.poll(() => verdicts.length, { timeout: 5_000 }).toBe(4)
  client.leave('room:7')
  await expect.poll(() => gateway!.operator.channelMembers('room:7')).toBe(0)
})
