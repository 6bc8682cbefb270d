import type { ChaosReport, Times } from './chaos.ts'

export function chaosSummary(report: ChaosReport): string {
  const { clients, nodes, published, shares } = report
  const { lost, doubled, reordered, miscounted, corrupted, wrongCounts, rooms } = clients
  return [
    `chaos     ${report.seconds.toFixed(0)} s; ${counts(report.faults)}`,
    `clients   ${clients.open} of ${clients.clients} connected; ${clients.sent} messages sent, ${clients.committed} committed, ${clients.outputs} outputs received; ${clients.resumes} resumes`,
    `faults    ${counts({ lost, doubled, reordered, miscounted, corrupted, 'wrong counts': wrongCounts })}; not recovered ${counts(clients.notRecovered) || 0}; rejected ${counts(clients.rejected) || 0}`,
    `nodes     ${counts({ handled: nodes.handled, redelivered: nodes.redelivered, unmarked: nodes.unmarked, disordered: nodes.disordered, overlapping: nodes.overlapping })}`,
    `channels  ${published.sent} published (${published.uncertain} uncertain), ${rooms.messages} received, ${rooms.continuous} continuous, ${rooms.gaps} gaps`,
    `          ${counts({ lost: rooms.lost, doubled: rooms.doubled, reordered: rooms.reordered, misplaced: rooms.misplaced, unjustified: rooms.unjustified })}`,
    `recovery  ${times(report.recoverMs)}`,
    `          ${report.recoveries.map(({ fault, tookMs, recoveredMs }) => `${fault} ${tookMs.toFixed(0)}+${recoveredMs.toFixed(0)}`).join(', ')} ms`,
    `away      ${times(report.awayMs)}`,
    `answers   ${times(report.answerMs)}`,
    `pauses    ${times(report.pauseMs)} (hand-overs)`,
    `ends      ${counts(clients.disconnects)}`,
    `shares    ${shares.map(({ node, sessions, fair }) => `${node} ${sessions} of ${fair.toFixed(1)}`).join(', ')}; ${report.sessions} sessions`,
    ...[...clients.notes, ...nodes.notes, ...report.violations].map((note) => `note      ${note}`),
  ].join('\n')
}

function times({ p50, p99, max }: Times): string {
  return `p50 ${p50.toFixed(0)} ms, p99 ${p99.toFixed(0)} ms, most ${max.toFixed(0)} ms`
}

function counts(values: Record<string, number>): string {
  return Object.entries(values)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ')
}
