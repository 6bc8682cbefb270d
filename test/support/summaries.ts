import type { ChurnReport } from './churn.ts'
import type { CrowdVerdict } from './crowd.ts'
import type { HandlingVerdict } from './ledger.ts'
import type { NodeKillReport } from './node-kill.ts'

export function churnSummary({
  seconds,
  reached,
  actions,
  outcomes,
  pauseMs,
  clients,
  nodes,
  shares,
}: ChurnReport): string {
  const { moves, held, aborts, answers } = reached
  const perSecond = Math.round(answers / seconds)
  const round = (ms: number) => ms.toFixed(1)
  return [
    `churn   ${seconds.toFixed(0)} s, ${perSecond} messages answered a second`,
    ...clientLines(clients),
    ...nodeLines(nodes),
    `actions ${counts(actions)}`,
    `moves   ${moves} committed, ${held} of them with messages held, ${aborts} called off`,
    `        ${counts(outcomes)}`,
    `pause   p50 ${round(pauseMs.p50)} ms, p99 ${round(pauseMs.p99)} ms, most ${round(pauseMs.max)} ms`,
    `shares  ${shares.map(({ node, sessions, fair, weight }) => `${node} ${sessions} of ${fair.toFixed(1)} (weight ${weight})`).join(', ')}`,
  ].join('\n')
}

export function nodeKillSummary({ kills, clients, nodes, movesHit }: NodeKillReport): string {
  return [
    `killed  ${kills} nodes, ${movesHit} moves lost their source or target`,
    ...clientLines(clients),
    ...nodeLines(nodes),
  ].join('\n')
}

function clientLines(verdict: CrowdVerdict): string[] {
  const { lost, doubled, reordered, miscounted, corrupted, closed, repeated } = verdict
  return [
    `clients ${verdict.clients} to the end, ${verdict.left} left on purpose; ${verdict.sent} messages sent, ${verdict.outputs} outputs received`,
    `faults  ${counts({ closed: closed.length, lost, doubled, reordered, miscounted, corrupted })}; repeated by redelivery ${repeated}`,
  ]
}

function nodeLines({ handled, redelivered, unmarked, disordered, overlapping }: HandlingVerdict): string[] {
  return [`nodes   ${counts({ handled, redelivered, unmarked, disordered, overlapping })}`]
}

function counts(values: Record<string, number>): string {
  return Object.entries(values)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ')
}
