import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ClientHello, type ClientWelcome, helloBytes } from '../../src/protocol/client-frames.ts'
import type { Output } from '../support/ledger-message.ts'
import { testSeed } from '../support/random.ts'
import { RawResumableClient } from '../support/raw-resumable-client.ts'
import { ResumableCluster } from '../support/resumable-cluster.ts'
import { ResumableCrowds } from '../support/resumable-crowds.ts'
import { atomicNodes, nothingWrong } from '../support/resumable-scene.ts'

/** Answers to clients that do wrong, at two real gateways with real nodes and other clients (PROTOCOL.md §2.1). */

const seed = testSeed('resume-bad-input')
const handshakeMs = 1_000
let cluster: ResumableCluster
let others: ResumableCrowds
let here: string
let elsewhere: string

beforeAll(async () => {
  cluster = await ResumableCluster.start({
    gateways: 2,
    nodes: atomicNodes(2),
    config: { rebalance: { enabled: false }, limits: { handshakeMs } },
  })
  const [first, second] = cluster.gateways.map(({ publicPort }) => `ws://127.0.0.1:${publicPort}/ws`)
  here = first!
  elsewhere = second!
  const load = { url: cluster.clientUrl, clients: 20, messagesPerSecond: 60, seed }
  others = await ResumableCrowds.connect(load, 1)
  await others.startSending()
})

afterAll(async () => {
  await others.settle()
  const verdict = await others.verdict()
  await others[Symbol.asyncDispose]()
  await cluster[Symbol.asyncDispose]()
  // Nobody else has noticed anything.
  expect(verdict).toMatchObject({ ...nothingWrong, open: 20, resumes: 0, disconnects: {} })
})

interface Welcomed {
  welcome: ClientWelcome
}

function resumeOf({ welcome }: Welcomed, changes: Partial<ClientHello['resume']> = {}): ClientHello {
  const { session, token } = welcome
  return { resume: { session, token, out: 0, channels: {}, ...changes } }
}

const ask = (n: number) => `m${JSON.stringify({ n, ms: 0, pushes: 0, pad: '' })}`

/** It has a session with one message, and one answer that is not acknowledged. */
async function goodClient(url = here) {
  const client = await RawResumableClient.connect(url)
  client.send(ask(1))
  await client.frame('a1')
  await client.frame('m')
  return client
}

/** Its session goes on over the connection that it has. */
async function expectUnharmed(client: RawResumableClient, n = 2): Promise<void> {
  client.send(ask(n))
  await client.frame(`a${n}`)
  const { count } = JSON.parse(client.messages().at(-1)!) as Output
  expect(count).toBe(n)
  expect(client.closed).toBe(false)
}

async function expectNewSession(url: string, hello: ClientHello, reason: ClientWelcome['reason']) {
  const { welcome } = await RawResumableClient.connect(url, hello)
  expect(welcome).toMatchObject({ recovered: false, reason, ack: 0, last: 0, out: 0 })
  expect(welcome.session).not.toBe(hello.resume!.session)
}

describe('tokens', () => {
  test('a used one, and one that is two resumes old, are worth nothing here and elsewhere', async () => {
    const first = await goodClient()
    const second = await RawResumableClient.connect(here, resumeOf(first))
    await expectUnharmed(second)
    const third = await RawResumableClient.connect(elsewhere, resumeOf(second, { out: 2 }))
    await expectUnharmed(third, 3)
    for (const stale of [first, second])
      for (const url of [here, elsewhere]) await expectNewSession(url, resumeOf(stale), 'token')
    await expectUnharmed(third, 4)
  })

  test('the one before is good until the first frame after the welcome, and not after it', async () => {
    const first = await goodClient()
    // As if the welcome had been lost on its way.
    const unheard = await RawResumableClient.connect(elsewhere, resumeOf(first))
    const second = await RawResumableClient.connect(here, resumeOf(first))
    expect(second.welcome).toMatchObject({ recovered: true, session: first.welcome.session })
    expect(await unheard.ended).toMatchObject({ code: 4101 })
    await expectUnharmed(second)
    await expectNewSession(here, resumeOf(first), 'token')
    await expectNewSession(elsewhere, resumeOf(unheard), 'token')
  })

  test('the token of another session, and junk, are refused', async () => {
    const [victim, other] = [await goodClient(), await goodClient(elsewhere)]
    const junk = randomBytes(32).toString('base64url')
    for (const url of [here, elsewhere]) {
      await expectNewSession(url, resumeOf(victim, { token: other.welcome.token }), 'token')
      await expectNewSession(url, resumeOf(victim, { token: junk }), 'token')
      await expectNewSession(url, resumeOf(victim, { session: 'nobody', token: junk }), 'unknown')
    }
    await expectUnharmed(victim)
    await expectUnharmed(other)
  })

  test('two clients show the same token at two gateways at once: one of them has the session', async () => {
    const first = await goodClient()
    // The one that loses it may hear so before its welcome.
    const both = await Promise.allSettled(
      [here, elsewhere].map((url) => RawResumableClient.connect(url, resumeOf(first))),
    )
    const welcomed = both.flatMap((one) => (one.status === 'fulfilled' ? one.value : []))
    const kept = welcomed.filter(({ welcome }) => welcome.recovered === true)
    expect(kept.length).toBeGreaterThan(0)
    await expect.poll(() => kept.filter(({ closed }) => !closed).length).toBe(1)
    await expectUnharmed(kept.find(({ closed }) => !closed)!)
  })
})

describe('outputs that nobody has', () => {
  test.each([1_000, Number.MAX_SAFE_INTEGER])('out %i was never made: gap', async (out) => {
    const client = await goodClient()
    await expectNewSession(here, resumeOf(client, { out }), 'gap')
    await expectNewSession(elsewhere, resumeOf(client, { out }), 'gap')
  })
})

describe('frames that are not allowed cost the connection', () => {
  const wrongHellos: [string, string | Buffer][] = [
    ['no hello', ask(1)],
    ['an acknowledgement first', 'a0'],
    ['hello as bytes', Buffer.from('h{}')],
    ['hello that is no JSON', 'h{"resume":'],
    ['a token that is too short', 'h{"resume":{"session":"s","token":"t","out":0,"channels":{}}}'],
    ['a negative out', `h{"resume":{"session":"s","token":"${'t'.repeat(43)}","out":-1,"channels":{}}}`],
    ['hello that is too long', `h{"x":"${'x'.repeat(helloBytes)}"}`],
    ['nothing but nulls', Buffer.alloc(100)],
  ]
  test.each(wrongHellos)('%s', async (_title, frame) => {
    const client = await RawResumableClient.open(here)
    client.send(frame)
    expect(await client.ended).toMatchObject({ code: 4100 })
  })

  test('hello that does not come', async () => {
    const client = await RawResumableClient.open(here)
    expect(await client.ended).toMatchObject({ code: 4100 })
  })

  test('a frame between hello and welcome', async () => {
    const client = await RawResumableClient.open(here)
    client.send('h{}')
    client.send(ask(1))
    expect(await client.ended).toMatchObject({ code: 4100 })
  })

  const wrongFrames: [string, string | Buffer][] = [
    ['hello twice', 'h{}'],
    ['an acknowledgement of what was not sent', 'a2'],
    ['an acknowledgement beyond all numbers', `a${Number.MAX_SAFE_INTEGER}`],
    ['an acknowledgement that is no number', 'a1e1'],
    ['an acknowledgement as bytes', Buffer.from('a1')],
    ['a frame that only gateways send', 'w{}'],
    ['an unknown frame', 'zzz'],
    ['an empty frame', ''],
  ]
  test.each(wrongFrames)('%s; the session is still there', async (_title, frame) => {
    const client = await goodClient()
    client.send(frame)
    expect(await client.ended).toMatchObject({ code: 4100 })
    const again = await RawResumableClient.connect(elsewhere, resumeOf(client))
    expect(again.welcome).toMatchObject({ recovered: true, ack: 1, last: 1, out: 0 })
    await again.frame('m')
    await expectUnharmed(again)
  })
})
