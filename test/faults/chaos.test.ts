import { expect, test } from 'vitest'
import { runChaos } from '../support/chaos.ts'
import { faultKinds } from '../support/chaos-faults.ts'
import { chaosSummary } from '../support/chaos-summary.ts'
import { isFair } from '../support/churn.ts'
import { noFaults } from '../support/ledger.ts'
import { testSeed } from '../support/random.ts'
import { noRoomFaults } from '../support/resumable-room.ts'

const seed = testSeed('chaos')
// A run that goes wrong is to end with its verdict, not with a time-out.
const timeoutMs = 180_000

test(
  'gateways, nodes and Redis are killed, drained and started: every session and every channel goes on',
  async () => {
    const report = await runChaos({
      seed,
      clients: 60,
      crowdProcesses: 1,
      messagesPerSecond: 150,
      rooms: 12,
      roomsEach: 3,
      publishesPerSecond: 2,
      gatewaysLeast: 1,
      gatewaysMost: 2,
      nodesLeast: 2,
      nodesMost: 3,
      atLeast: [...faultKinds],
      seconds: 0,
      limits: { gatewayDrainMs: 1_000, resumeSpreadMs: 500 },
    })
    const { clients, nodes } = report
    expect(clients, chaosSummary(report)).toMatchObject({
      ...noFaults,
      open: 60,
      closed: [],
      notRecovered: {},
      rejected: {},
      unsettled: 0,
      repeated: 0,
      wrongCounts: 0,
      committed: clients.sent,
      notes: [],
      rooms: noRoomFaults,
    })
    expect(nodes).toMatchObject({ unmarked: 0, disordered: 0, overlapping: 0, notes: [] })
    expect(report.violations).toEqual([])
    expect(report.sessions).toBe(60)
    expect(report.shares.filter((share) => !isFair(share))).toEqual([])
    expect(Object.keys(report.faults).toSorted()).toEqual([...faultKinds].toSorted())
    expect(clients.resumes).toBeGreaterThan(0)
  },
  timeoutMs,
)
