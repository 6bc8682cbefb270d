import { expect, test } from 'vitest'
import { isFair, runChurn, unreached } from '../support/churn.ts'
import { noFaults } from '../support/ledger.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('churn')
// A run that goes wrong is to end with its verdict, not with a time-out.
const timeoutMs = 90_000
const goals = { moves: 200, held: 5, aborts: 3, answers: 1_000 }

test(
  'nodes come, go and change under load: no client notices',
  async () => {
    const report = await runChurn({
      seed,
      clients: 100,
      messagesPerSecond: 500,
      stuckShare: 0.03,
      nodesLeast: 2,
      nodesMost: 4,
      migrationsPerSecond: 40,
      seconds: 6,
      secondsMost: 20,
      goals,
    })
    expect(report.clients).toMatchObject({ ...noFaults, closed: [], repeated: 0, notes: [] })
    expect(report.nodes).toMatchObject({
      redelivered: 0,
      unmarked: 0,
      disordered: 0,
      overlapping: 0,
      notes: [],
    })
    expect(report).toMatchObject({ sessions: 100, leaks: [] })
    expect(report.shares.filter((share) => !isFair(share))).toEqual([])
    expect(unreached(report, goals)).toEqual([])
    expect(report.shares.length).toBeGreaterThanOrEqual(2)
  },
  timeoutMs,
)
