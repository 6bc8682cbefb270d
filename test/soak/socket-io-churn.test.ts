import { expect, test } from 'vitest'
import { testSeed } from '../support/random.ts'
import {
  runSocketIoChurn,
  type SocketIoChurnReport,
  socketIoChurnSummary,
} from '../support/socket-io-churn.ts'
import { nothingWrong } from '../support/socket-io-judge.ts'

const seed = testSeed('Socket.IO soak')

function movedIn({ outcomes }: SocketIoChurnReport): number {
  const moved = Object.entries(outcomes).filter(([name]) => name.endsWith(' moved'))
  return moved.reduce((sum, [, count]) => sum + count, 0)
}

test('200 clients over two gateways, three nodes, 2,000 moves: nobody notices', async () => {
  const report = await runSocketIoChurn({
    seed,
    clients: 200,
    eventsPerSecond: 400,
    castEveryMs: 1_000,
    migrationsPerSecond: 60,
    migrations: 2_000,
    seconds: 30,
    faults: [],
  })
  console.log(socketIoChurnSummary(report))
  const { clients: _, notes: __, ...counts } = report.verdict
  expect(report.verdict).toMatchObject({ ...nothingWrong, clients: 200, handled: report.sent })
  expect(counts).toMatchObject({
    redelivered: 0,
    unanswered: 0,
    rolledBack: 0,
    reattached: 0,
    reconnected: 0,
  })
  expect(movedIn(report)).toBeGreaterThanOrEqual(2_000)
})

test('nodes and gateways are killed, drained and started for 90 s: what is promised, and nothing else', async () => {
  const report = await runSocketIoChurn({
    seed,
    clients: 200,
    eventsPerSecond: 400,
    castEveryMs: 1_000,
    migrationsPerSecond: 30,
    migrations: 1_000,
    seconds: 90,
    faults: [
      'node killed',
      'node drained',
      'node terminated',
      'node started',
      'gateway killed',
      'gateway started',
    ],
  })
  console.log(socketIoChurnSummary(report))
  // Everyone has been saved when a node is killed, so nobody is connected anew.
  expect(report.verdict).toMatchObject({ ...nothingWrong, clients: 200, reattached: 0 })
  expect(report.verdict.reconnected).toBeGreaterThan(0)
})
