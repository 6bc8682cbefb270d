import { once } from 'node:events'
import type { MigratePolicy } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { Migrations } from '../support/migrations.ts'

async function connect(gateway: TestGateway, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const ws = new WebSocket(gateway.wsUrl)
    onTestFinished(() => ws.terminate())
    await once(ws, 'open')
  }
}

function counts(gateway: TestGateway): Record<string, number> {
  return Object.fromEntries(gateway.operator.nodes().map(({ id, sessions }) => [id, sessions]))
}

/** Ten sessions at `a`, none at `b`. */
async function startUneven(migrate: MigratePolicy) {
  const gateway = await startTestGateway()
  await startTestNode(gateway, echo, { id: 'a', migrate })
  await connect(gateway, 10)
  const migrations = new Migrations(gateway)
  const node = await startTestNode(gateway, echo, { id: 'b', migrate })
  return { gateway, migrations, node }
}

test('sessions of a node that says so are not moved for balance; new ones go where there are fewest', async () => {
  const { gateway, migrations } = await startUneven('drain')
  const [plan] = gateway.operator.rebalance()
  expect(plan).toMatchObject({ moves: [], operation: null })
  await connect(gateway, 6)
  expect(counts(gateway)).toEqual({ a: 10, b: 6 })
  expect(migrations.ended).toEqual([])
})

test('an operator may move them, and a drain does', async () => {
  const { gateway, migrations } = await startUneven('drain')
  const [session] = gateway.operator.sessions().sessions
  expect(await migrations.start(session!.id, 'b')).toMatchObject({ outcome: 'moved', to: 'b' })
  gateway.operator.drain('a')
  await migrations.nth(9)
  expect(migrations.outcomes).toEqual(Array(10).fill('moved'))
  expect(counts(gateway)).toEqual({ a: 0, b: 10 })
})

test('those of other nodes are moved', async () => {
  const { gateway, migrations } = await startUneven('always')
  await migrations.nth(3)
  await expect.poll(() => counts(gateway)).toEqual({ a: 6, b: 4 })
})
