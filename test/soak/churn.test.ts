import { expect, test } from 'vitest'
import { isFair, runChurn, unreached } from '../support/churn.ts'
import { noFaults } from '../support/ledger.ts'
import { testSeed } from '../support/random.ts'
import { churnSummary } from '../support/summaries.ts'

const seed = testSeed('churn soak')
const goals = { moves: 5_000, held: 200, aborts: 20, answers: 120_000 }

test('1,000 clients, 60 seconds of churn, 5,000 moves: no client notices', async () => {
  const report = await runChurn({
    seed,
    clients: 1_000,
    messagesPerSecond: 2_000,
    stuckShare: 0.01,
    nodesLeast: 2,
    nodesMost: 6,
    migrationsPerSecond: 60,
    seconds: 60,
    secondsMost: 240,
    goals,
  })
  console.log(churnSummary(report))
  expect(report.clients).toMatchObject({ ...noFaults, clients: 1_000, closed: [], repeated: 0, notes: [] })
  expect(report.nodes).toMatchObject({
    redelivered: 0,
    unmarked: 0,
    disordered: 0,
    overlapping: 0,
    notes: [],
  })
  expect(report).toMatchObject({ sessions: 1_000, leaks: [] })
  expect(report.shares.filter((share) => !isFair(share))).toEqual([])
  expect(unreached(report, goals)).toEqual([])
  for (const outcome of ['refused', 'quiesce-timeout', 'session-closed'])
    expect(report.outcomes[outcome], outcome).toBeGreaterThan(0)
})
