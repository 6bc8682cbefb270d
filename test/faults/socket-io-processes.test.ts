import { expect, test } from 'vitest'
import { testSeed } from '../support/random.ts'
import { runSocketIoChurn, socketIoChurnSummary } from '../support/socket-io-churn.ts'
import { nothingWrong } from '../support/socket-io-judge.ts'

const seed = testSeed('Socket.IO churn')

test('30 clients over two gateways, 150 moves: nothing is lost, doubled or reordered, and nobody notices', {
  timeout: 120_000,
}, async () => {
  const report = await runSocketIoChurn({
    seed,
    clients: 30,
    eventsPerSecond: 200,
    castEveryMs: 200,
    migrationsPerSecond: 100,
    migrations: 150,
    seconds: 0,
    faults: [],
  })
  console.log(socketIoChurnSummary(report))
  expect(report.verdict).toMatchObject({
    ...nothingWrong,
    clients: 30,
    handled: report.sent,
    redelivered: 0,
    unanswered: 0,
    rolledBack: 0,
    reattached: 0,
    reconnected: 0,
  })
})

test('nodes are killed and drained, and a gateway is killed: what is promised, and nothing else', {
  timeout: 180_000,
}, async () => {
  const report = await runSocketIoChurn({
    seed,
    clients: 30,
    eventsPerSecond: 200,
    castEveryMs: 200,
    migrationsPerSecond: 40,
    migrations: 50,
    seconds: 0,
    faults: ['node killed', 'node drained', 'node killed', 'gateway killed'],
  })
  console.log(socketIoChurnSummary(report))
  // Everyone has been saved when a node is killed, so nobody is connected anew.
  expect(report.verdict).toMatchObject({ ...nothingWrong, clients: 30, reattached: 0 })
  expect(report.verdict.reconnected).toBeGreaterThan(0)
})
