import type { Delivery } from 'evenkeel/sdk'
import { describe, expect, test } from 'vitest'
import { type FaultyNode, startLinkedNode, startNodeProcess } from '../support/faulty-node.ts'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { NumberedClient } from '../support/numbered-client.ts'

const faults: { fault: string; delivery: Delivery; startNode: typeof startLinkedNode }[] = [
  { fault: 'link cut', delivery: 'stream', startNode: startLinkedNode },
  { fault: 'link cut', delivery: 'atomic', startNode: startLinkedNode },
  { fault: 'SIGKILL', delivery: 'stream', startNode: startNodeProcess },
]

interface Stage {
  gateway: TestGateway
  a: FaultyNode
  b: FaultyNode
  client: NumberedClient
  session: string
  migrate(): void
  /** The node and term that the gateway has for the session. */
  assignment(): { node: string | null; term: number }
}

/** A session at node a that never falls silent, and an idle node b. */
async function setStage(startNode: typeof startLinkedNode, delivery: Delivery): Promise<Stage> {
  const gateway = await startTestGateway({ rebalance: { enabled: false } })
  const a = await startNode(gateway, 'a', { delivery })
  const client = await NumberedClient.connect(gateway.wsUrl)
  const b = await startNode(gateway, 'b', { delivery })
  client.stream(6)
  await client.answers(10)
  const session = gateway.operator.sessions().sessions[0]!.id
  return {
    gateway,
    a,
    b,
    client,
    session,
    migrate: () => void gateway.operator.migrate(session, 'b'),
    assignment() {
      const { node, term } = gateway.operator.session(session)
      return { node, term }
    },
  }
}

/** Each brings the migration to a step and holds it there. */
const steps: Record<string, (stage: Stage) => Promise<void>> = {
  async 'before READY'({ b, migrate, gateway, session }) {
    b.freeze()
    migrate()
    await expect.poll(() => gateway.operator.session(session).state).toBe('migrating')
  },
  async 'after READY, before FIN'({ a, migrate }) {
    await a.block('close')
    migrate()
    await a.step('close', ({ cause }) => cause === 'migrated')
  },
  async 'after ACTIVATE, before the first commit'({ b, migrate }) {
    await b.block('sent')
    migrate()
    await b.step('sent')
  },
  async 'after the first commit'({ client, migrate }) {
    migrate()
    await client.until(() => client.replies.at(-1)?.node === 'b', 'an answer from b')
  },
}

/** What survives goes on, whatever it was waiting for. */
async function letGo(node: FaultyNode): Promise<void> {
  node.thaw()
  for (const point of ['close', 'sent'] as const) await node.release(point)
}

/** What a lost node had begun and not committed is marked where it is handled again. Returns those messages. */
function expectMarked(lost: FaultyNode, survivor: FaultyNode): number[] {
  const begun = new Set(lost.steps.filter(({ point }) => point === 'message').map(({ n }) => n))
  const again = survivor.steps.filter(({ point, n }) => point === 'message' && begun.has(n))
  // The survivor may have handled it before, as the source, and committed it; then the lost one never got it.
  expect(again.filter(({ redelivered }) => redelivered !== true)).toEqual([])
  return again.map(({ n }) => n!)
}

describe.each(faults)('$fault, delivery $delivery', ({ delivery, startNode }) => {
  describe.each(Object.entries(steps))('%s', (name, bringAbout) => {
    const isAtTarget = name.includes('commit')
    const repeats = delivery === 'stream'

    test('the source is lost', async () => {
      const stage = await setStage(startNode, delivery)
      const { a, b, client, assignment } = stage
      await bringAbout(stage)
      await a.lose()
      await letGo(b)
      await expect.poll(assignment).toEqual({ node: 'b', term: 2 })
      await client.answers(20)
      await client.finish()
      const redelivered = client.verify({ repeats })
      const again = expectMarked(a, b)
      // After FIN the source has nothing left to lose.
      if (isAtTarget) expect([redelivered, again]).toEqual([[], []])
      expect(client.replies.at(-1)).toMatchObject({ node: 'b', term: 2 })
    })

    test('the target is lost', async () => {
      const stage = await setStage(startNode, delivery)
      const { a, b, client, assignment } = stage
      await bringAbout(stage)
      await b.lose()
      await letGo(a)
      await expect.poll(assignment).toEqual({ node: 'a', term: isAtTarget ? 3 : 1 })
      await client.answers(20)
      await client.finish()
      const redelivered = client.verify({ repeats })
      const again = expectMarked(b, a)
      if (name.includes('before the first commit')) expect(again.length).toBeGreaterThan(0)
      if (!isAtTarget) expect([redelivered, again]).toEqual([[], []])
      expect(client.replies.at(-1)).toMatchObject({ node: 'a', term: isAtTarget ? 3 : 1 })
    })
  })
})
