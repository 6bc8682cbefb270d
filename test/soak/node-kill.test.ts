import { expect, test } from 'vitest'
import { noFaults } from '../support/ledger.ts'
import { runNodeKills } from '../support/node-kill.ts'
import { testSeed } from '../support/random.ts'
import { nodeKillSummary } from '../support/summaries.ts'

const seed = testSeed('node-kill soak')
const size = { clients: 500, messagesPerSecond: 800, nodes: 4, rounds: 40, answersPerRound: 800 }

test.each(['stream', 'atomic'] as const)(
  '40 rounds of SIGKILL, delivery %s: nothing is lost',
  async (delivery) => {
    const report = await runNodeKills({ seed, delivery, ...size })
    console.log(nodeKillSummary(report))
    const { clients, nodes, movesHit } = report
    expect(clients).toMatchObject({ ...noFaults, clients: 500, closed: [], notes: [] })
    if (delivery === 'atomic') expect(clients.repeated).toBe(0)
    else expect(clients.repeated).toBeGreaterThan(0)
    expect(nodes).toMatchObject({ unmarked: 0, disordered: 0, overlapping: 0, notes: [] })
    expect(nodes.redelivered).toBeGreaterThan(0)
    expect(movesHit).toBeGreaterThan(0)
    for (const { sent, count } of Object.values(clients.counts)) expect(count).toBe(sent)
  },
)
