import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import type { ClusterMember } from '../../src/cluster/member.ts'
import { MemoryCluster } from '../../src/cluster/memory.ts'
import { Migrator } from '../../src/gateway/migrator.ts'
import { NodeTable } from '../../src/gateway/node-table.ts'
import { Operations } from '../../src/gateway/operations.ts'
import type { Operation } from '../../src/gateway/operator.ts'
import { Placement } from '../../src/gateway/placement.ts'
import { type PlanMessage, parsePlanMessage } from '../../src/gateway/plan-message.ts'
import { Rebalancer } from '../../src/gateway/rebalancer.ts'
import type { Link } from '../../src/link/link.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'
import { type Hello, linkProtocolVersion } from '../../src/protocol/link-records.ts'

const lease = 'rebalance.default'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** A rebalancer whose nodes are uneven by sessions that another gateway, `gw-2`, has given them. */
async function setUp(options: { intervalMs?: number } = {}) {
  const cluster = new MemoryCluster({ now: () => performance.now() })
  const [own, other] = [cluster.join(), cluster.join()]
  const nodes = new NodeTable(defaultLimits, { suspect() {}, healthy() {}, down() {} })
  for (const [id, sessions] of Object.entries({ a: 20, b: 0 }))
    nodes.join(hello(id), {} as Link).reported(reportOf({ 'gw-2': sessions }), 'gw-1')
  const operations: Operation[] = []
  const rebalancer = new Rebalancer(
    { enabled: true, intervalMs: options.intervalMs ?? 0, tolerance: 0.03, maxMovesPerRound: null },
    {
      gatewayId: 'gw-1',
      nodes,
      migrator: new Migrator({
        limits: { migrationWindow: 1, migrationsPerSecond: 0, prepareMs: 1_000, quiesceMs: 1_000 },
        now: () => performance.now(),
        onResult() {},
      }),
      operations: new Operations((operation) => operations.push(operation)),
      placement: new Placement({
        nodes,
        rules: {},
        pools: new Map(),
        maxOverShare: 0.25,
        random: Math.random,
      }),
      now: () => performance.now(),
      cluster: own,
      publish() {},
    },
  )
  rebalancer.start()
  onTestFinished(() => rebalancer.stop())
  const plans = await plansSeenBy(other)
  const answer = () => {
    const { planner, operation } = plans.at(-1)!
    const message: PlanMessage = { type: 'part-ended', planner, operation, gateway: 'gw-2', moved: 9 }
    return other.bus.publish('$plans', Buffer.from(JSON.stringify(message)), true)
  }
  const changed = async () => {
    rebalancer.soon()
    await vi.advanceTimersByTimeAsync(200)
  }
  return { rebalancer, other, plans, operations, answer, changed }
}

function hello(id: string): Hello {
  const protocol = linkProtocolVersion
  const process = { host: 'h', pid: 1, version: '' }
  return { protocol, id, instance: `of-${id}-1`, pool: 'default', weight: 1, maxSessions: null, ...process }
}

function reportOf(gateways: Record<string, number>) {
  return { gateways, eventLoopLagMs: 0, weight: 1, drain: null, steered: 0 }
}

async function plansSeenBy({ bus }: ClusterMember) {
  const plans: Extract<PlanMessage, { type: 'plan' }>[] = []
  await bus.subscribe('$plans', (payload) => {
    const message = parsePlanMessage(payload)
    if (message?.type === 'plan') plans.push(message)
  })
  return plans
}

test('a pool is not planned again while another gateway carries out its part of the last plan', async () => {
  const { plans, operations, answer, changed } = await setUp({ intervalMs: 1_000 })
  await changed()
  expect(plans.map(({ parts }) => parts)).toEqual([{ 'gw-2': [{ from: 'a', to: 'b', count: 9 }] }])
  await changed()
  await vi.advanceTimersByTimeAsync(3_000)
  expect(plans).toHaveLength(1)
  await answer()
  await vi.advanceTimersByTimeAsync(0)
  expect(operations.at(-1)).toMatchObject({ state: 'done', moved: 9 })
  await vi.advanceTimersByTimeAsync(1_000)
  expect(plans).toHaveLength(2)
})

test('what changed meanwhile is planned as soon as the plan has ended', async () => {
  const { plans, answer, changed } = await setUp()
  await changed()
  await changed()
  expect(plans).toHaveLength(1)
  await answer()
  await vi.advanceTimersByTimeAsync(200)
  expect(plans).toHaveLength(2)
  await answer()
  await vi.advanceTimersByTimeAsync(60_000)
  expect(plans).toHaveLength(2)
})

test('a gateway that never answers holds planning up for ten seconds', async () => {
  const { plans, operations, changed } = await setUp()
  await changed()
  await vi.advanceTimersByTimeAsync(9_000)
  await changed()
  expect([plans.length, operations.at(-1)!.state]).toEqual([1, 'running'])
  await vi.advanceTimersByTimeAsync(1_500)
  expect(operations.filter(({ state }) => state === 'done').map(({ id }) => id)).toEqual([
    plans[0]!.operation,
  ])
  expect(plans).toHaveLength(2)
})

test('the planner keeps the lease until its plan has ended, so that nobody else plans meanwhile', async () => {
  const { other, answer, changed } = await setUp()
  await changed()
  await vi.advanceTimersByTimeAsync(7_000)
  expect(await other.registry.lead(lease, 1_000)).toBe(false)
  await answer()
  await vi.advanceTimersByTimeAsync(4_000)
  expect(await other.registry.lead(lease, 1_000)).toBe(true)
})

test('one that has retired plans no more and gives the lease back', async () => {
  const { rebalancer, other, plans, operations, answer, changed } = await setUp({ intervalMs: 500 })
  await changed()
  rebalancer.retire()
  expect(await other.registry.lead(lease, 100)).toBe(true)
  await vi.advanceTimersByTimeAsync(2_000)
  expect(await other.registry.lead(lease, 100)).toBe(true)
  await answer()
  await vi.advanceTimersByTimeAsync(1_000)
  expect(operations.at(-1)).toMatchObject({ state: 'done', moved: 9 })
  await changed()
  expect(plans).toHaveLength(1)
  expect(await other.registry.lead(lease, 1_000)).toBe(true)
})

test('a new pace and tolerance hold at once; the same pace does not begin anew', async () => {
  const { rebalancer, plans } = await setUp({ intervalMs: 60_000 })
  const options = { enabled: true, intervalMs: 500, tolerance: 0.03, maxMovesPerRound: null }
  rebalancer.configure({ ...options, tolerance: 1 })
  await vi.advanceTimersByTimeAsync(400)
  rebalancer.configure({ ...options, maxMovesPerRound: 4 })
  await vi.advanceTimersByTimeAsync(100)
  expect(plans.map(({ parts }) => parts)).toEqual([{ 'gw-2': [{ from: 'a', to: 'b', count: 4 }] }])
  rebalancer.configure({ ...options, enabled: false })
  await vi.advanceTimersByTimeAsync(60_000)
  expect(plans).toHaveLength(1)
})
