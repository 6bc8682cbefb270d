import { expect, test } from 'vitest'
import { runChaos } from '../support/chaos.ts'
import { faultKinds } from '../support/chaos-faults.ts'
import { runRedisOutage } from '../support/chaos-redis.ts'
import { chaosSummary } from '../support/chaos-summary.ts'
import { isFair } from '../support/churn.ts'
import { testSeed } from '../support/random.ts'
import { noRoomFaults } from '../support/resumable-room.ts'
import { nothingWrong } from '../support/resumable-scene.ts'

const seed = testSeed('chaos soak')

test('600 clients, 50 channels, 3 gateways, 4 nodes and Redis, 2 minutes of faults: everything goes on', async () => {
  const report = await runChaos({
    seed,
    clients: 600,
    crowdProcesses: 2,
    messagesPerSecond: 300,
    rooms: 50,
    roomsEach: 3,
    publishesPerSecond: 1,
    gatewaysLeast: 1,
    gatewaysMost: 3,
    nodesLeast: 2,
    nodesMost: 4,
    atLeast: [...faultKinds, 'Redis restarted'],
    seconds: 120,
    limits: { gatewayDrainMs: 3_000 },
  })
  console.log(chaosSummary(report))
  const { clients, nodes, faults } = report
  expect(clients).toMatchObject({ ...nothingWrong, open: 600, committed: clients.sent, rooms: noRoomFaults })
  expect(nodes).toMatchObject({ unmarked: 0, disordered: 0, overlapping: 0, notes: [] })
  expect(report.violations).toEqual([])
  expect(report.sessions).toBe(600)
  expect(report.shares.filter((share) => !isFair(share))).toEqual([])
  expect(Object.keys(faults).toSorted()).toEqual([...faultKinds].toSorted())
  expect(faults['Redis restarted']).toBe(2)
  expect(clients.resumes).toBeGreaterThan(600)
  expect(nodes.redelivered).toBeGreaterThan(0)
})

test.each(['stopped', 'killed'] as const)(
  'Redis is %s for 30 s: sessions go on, and it heals',
  async (how) => {
    const report = await runRedisOutage({ seed, how, awayMs: 30_000, clients: 100 })
    const { clients, newcomers, away, healedMs } = report
    console.log(`Redis ${how}: ${clients.sent} messages sent, healed after ${Math.round(healedMs)} ms`)
    expect(clients).toMatchObject({
      ...nothingWrong,
      open: 100,
      resumes: 0,
      disconnects: {},
      rooms: noRoomFaults,
    })
    expect(clients.committed).toBe(clients.sent)
    expect(newcomers).toMatchObject({ ...nothingWrong, open: 2, resumes: 0, disconnects: {} })
    for (const { status, reasons } of away) {
      expect(status).toBe(200)
      expect(reasons.join()).toMatch(/redis/i)
    }
    expect(healedMs).toBeLessThan(5_000)
  },
)
