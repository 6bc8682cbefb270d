import { expect, test } from 'vitest'
import { testSeed } from '../support/random.ts'
import { RawResumableClient } from '../support/raw-resumable-client.ts'
import { type Attempt, machineTime } from '../support/resumable-client.ts'
import type { ResumableCluster } from '../support/resumable-cluster.ts'
import type { ResumableCrowds } from '../support/resumable-crowds.ts'
import {
  atomicNodes,
  books,
  handledOnce,
  mostWithin,
  nothingWrong,
  startCluster,
  startCrowd,
} from '../support/resumable-scene.ts'

const seed = testSeed('gateway-kill')
// A run that goes wrong is to end with its verdict, not with a time-out.
const timeoutMs = 90_000
const windowMs = 100

/** All clients are at the first of two gateways, and the other one is there. */
async function everyoneAtTheFirst(clients: number, limits: Record<string, number> = {}) {
  const cluster = await startCluster({ gateways: 2, nodes: atomicNodes(3), config: { limits } })
  const [first, second] = cluster.gateways as [
    ResumableCluster['gateways'][0],
    ResumableCluster['gateways'][0],
  ]
  await cluster.shun(second)
  const crowd = await startCrowd(cluster, { clients, seed })
  await cluster.admit(second)
  expect(await first.sessions()).toHaveLength(clients)
  return { cluster, crowd, first, second }
}

/** Of each client. */
async function firstAttempts(crowd: ResumableCrowds, from: number): Promise<Attempt[]> {
  return (await crowd.attempts(from)).map(([attempt]) => attempt!)
}

test(
  'a gateway is killed: its clients come to another one, spread, and nothing is lost',
  async () => {
    const { cluster, crowd, first, second } = await everyoneAtTheFirst(200)
    // Handlers that outlast the absence of their clients, and messages behind them.
    await crowd.sendAll(2_500)
    await crowd.stallMs()
    const killedAt = machineTime()
    await first.kill()
    await crowd.fence()
    const attempts = await firstAttempts(crowd, killedAt)
    expect(attempts).toHaveLength(200)
    // Where this machine stood still, so did the clients: what was due meanwhile came at once.
    const mostAllowed = Math.ceil(0.1 * 200 * (1 + (await crowd.stallMs()) / windowMs))
    const most = mostWithin(windowMs, attempts)
    console.log(
      `gateway-kill: at most ${most} of 200 first attempts in ${windowMs} ms, ${mostAllowed} allowed`,
    )
    expect(most).toBeLessThanOrEqual(mostAllowed)
    const waits = attempts.map(({ helloAt, welcomedAt }) => (welcomedAt! - helloAt) / 1000)
    console.log(`gateway-kill: welcomed after ${Math.round(Math.max(...waits))} ms at most`)
    expect(Math.max(...waits)).toBeLessThan(3_000)
    const { clients, nodes } = await books(cluster, crowd)
    expect(second.events.of('node-down'), second.log()).toEqual([])
    expect(clients).toMatchObject({ ...nothingWrong, open: 200, resumes: 200, committed: clients.sent })
    expect(nodes).toMatchObject({ ...handledOnce, handled: clients.sent })
    expect(await second.sessions()).toHaveLength(200)
  },
  timeoutMs,
)

test(
  'a gateway is stopped, its clients go on at another one, and it runs again: its copies do no harm',
  async () => {
    const { cluster, crowd, first, second } = await everyoneAtTheFirst(60, { resumeSpreadMs: 300 })
    await crowd.sendAll(1_000)
    first.signal('SIGSTOP')
    // What clients send now reaches the gateway when it runs again; by then they have sent it by another one too.
    await new Promise((resolve) => setTimeout(resolve, 100))
    await cluster.shun(first)
    expect(await cluster.balancer.cut(first.publicPort)).toBe(60)
    await crowd.fence()
    expect(await second.sessions()).toHaveLength(60)
    first.signal('SIGCONT')
    await expect.poll(() => first.sessions(), { timeout: 20_000 }).toEqual([])
    expect(await second.sessions()).toHaveLength(60)
    // And it is as good as any other: the clients come back to it.
    await cluster.admit(first)
    await second.kill()
    await crowd.fence()
    const { clients, nodes } = await books(cluster, crowd)
    expect(clients).toMatchObject({ ...nothingWrong, open: 60, resumes: 120, committed: clients.sent })
    expect(nodes).toMatchObject({ ...handledOnce, handled: clients.sent })
    expect((await first.sessions()).map(({ id }) => id).toSorted()).toEqual(
      (await crowd.sessions()).toSorted(),
    )
  },
  timeoutMs,
)

test(
  'a node that was given up comes back when the gateway is gone: nobody goes on with its old copies',
  async () => {
    const limits = { resumeSpreadMs: 300, heartbeatMs: 200, suspectMs: 400, downMs: 800 }
    const { cluster, crowd, first, second } = await everyoneAtTheFirst(60, limits)
    const [node] = cluster.nodes
    const old = (await first.sessions()).filter((session) => session.node === node!.id)
    expect(old.length).toBeGreaterThan(0)
    node!.signal('SIGSTOP')
    // The sessions go on elsewhere, beyond what the node knows of them.
    await first.events.find('node-down', (event) => event.node === node!.id)
    await crowd.fence()
    first.signal('SIGKILL')
    node!.signal('SIGCONT')
    await crowd.fence()
    const { clients } = await books(cluster, crowd)
    expect(clients).toMatchObject({ ...nothingWrong, open: 60, resumes: 60, committed: clients.sent })
    const terms = new Map((await second.sessions()).map(({ id, term }) => [id, term]))
    for (const { id, term } of old) expect(terms.get(id)).toBeGreaterThan(term + 1)
  },
  timeoutMs,
)

test.each(['moved', 'recovered'])(
  'outputs that a node has made before the session was %s to another one outlive the gateway',
  async (how) => {
    const cluster = await startCluster({ gateways: 2, nodes: atomicNodes(2) })
    const [first, second] = cluster.gateways.map(({ publicPort }) => `ws://127.0.0.1:${publicPort}/ws`)
    const client = await RawResumableClient.connect(first!)
    const ask = (n: number) => client.send(`m${JSON.stringify({ n, ms: 0, pushes: 0, pad: '' })}`)
    for (const n of [1, 2, 3]) ask(n)
    await client.frame('m', 3)
    client.send('a1')
    const { session, token } = client.welcome
    const { admin } = cluster.gateways[0]!
    const { node } = await admin.session(session)
    const [from, to] = cluster.nodes.toSorted((a) => (a.id === node ? -1 : 1))
    if (how === 'moved') await admin.migrate(session, to!.id)
    else await from!.kill()
    await expect.poll(async () => (await admin.session(session)).node).toBe(to!.id)
    // Its first answer comes behind all that it was given with the session.
    ask(4)
    await client.frame('m', 4)
    await cluster.gateways[0]!.kill()
    const again = await RawResumableClient.connect(second!, {
      resume: { session, token, out: 1, channels: {} },
    })
    expect(again.welcome).toMatchObject({ recovered: true, ack: 4, last: 4, out: 1 })
    await again.frame('m', 3)
    expect(again.messages()).toEqual(client.messages().slice(1))
  },
  timeoutMs,
)

test(
  'a gateway is drained: it asks its clients to move, spread, and ends with 0',
  async () => {
    const gatewayDrainMs = 1_500
    const { cluster, crowd, first, second } = await everyoneAtTheFirst(60, { gatewayDrainMs })
    await cluster.shun(first)
    // There is always a handler that ends while its session is on its way.
    await crowd.sendAll(20, 50)
    const askedAt = machineTime()
    const { code } = await first.kill('SIGTERM')
    expect(code, first.log()).toBe(0)
    await crowd.fence()
    const attempts = await firstAttempts(crowd, askedAt)
    expect(attempts).toHaveLength(60)
    expect(mostWithin(windowMs, attempts)).toBeLessThan(60 / 4)
    const times = attempts.map(({ helloAt }) => helloAt / 1000)
    expect(Math.max(...times) - Math.min(...times)).toBeGreaterThan(gatewayDrainMs / 2)
    const { clients, nodes } = await books(cluster, crowd)
    expect(clients).toMatchObject({ ...nothingWrong, open: 60, resumes: 60, committed: clients.sent })
    expect(Object.keys(clients.disconnects)).toEqual(['4000 the gateway leaves'])
    expect(nodes).toMatchObject({ ...handledOnce, handled: clients.sent })
    expect(await second.sessions()).toHaveLength(60)
  },
  timeoutMs,
)
