import type { ChannelView, NodeView, Operation, RebalanceResult, SessionView } from '../gateway/operator.ts'
import type { UpstreamView } from '../gateway/upstream-directory.ts'
import { age, type Cell, type Column, milliseconds, type Output, percent, printable } from './output.ts'

export const nodeColumns: Column<NodeView>[] = [
  { title: 'NODE', cell: (node) => node.id },
  { title: 'POOL', cell: (node) => node.pool },
  { title: 'STATE', cell: stateCell },
  { title: 'HEALTH', cell: healthCell },
  { title: 'WEIGHT', align: 'right', cell: (node) => node.weight },
  { title: 'SESSIONS', align: 'right', cell: (node) => node.sessions },
  { title: 'SHARE', align: 'right', cell: (node) => percent(node.share) },
  { title: 'FAIR', align: 'right', cell: (node) => percent(node.fairShare) },
  { title: 'VERSION', cell: (node) => node.version || '-' },
  { title: 'MSG/S', align: 'right', cell: (node) => node.messagesPerSecond.toFixed(1) },
  { title: 'RTT', align: 'right', cell: (node) => milliseconds(node.linkRttMs) },
  { title: 'HOST', cell: (node) => node.host },
  { title: 'PID', align: 'right', cell: (node) => node.pid ?? '-' },
]

function stateCell({ state }: NodeView): Cell {
  const colours = { active: 'green', draining: 'yellow', drained: 'dim', down: 'red' } as const
  return { text: state, colour: colours[state] }
}

function healthCell({ health }: NodeView): Cell {
  const colours = { healthy: 'green', suspect: 'yellow', down: 'red' } as const
  return { text: health, colour: colours[health] }
}

export const upstreamColumns: Column<UpstreamView>[] = [
  { title: 'UPSTREAM', cell: (upstream) => upstream.id },
  { title: 'POOL', cell: (upstream) => upstream.pool },
  { title: 'URL', cell: (upstream) => upstream.url },
  { title: 'ADDRESS', cell: (upstream) => upstream.address ?? '-' },
  { title: 'FROM', cell: (upstream) => upstream.origin },
  { title: 'WEIGHT', align: 'right', cell: (upstream) => upstream.weight },
  { title: 'DRAIN', cell: ({ drain }) => (drain === null ? '-' : 'ordered') },
  { title: 'HEALTH', cell: upstreamHealthCell },
  { title: 'WHY', cell: (upstream) => upstream.reason ?? '' },
]

function upstreamHealthCell({ health }: UpstreamView): Cell {
  const colours = { healthy: 'green', unhealthy: 'red', ejected: 'yellow', unresolved: 'red' } as const
  return { text: health, colour: colours[health] }
}

export function sessionColumns(nowMs: number): Column<SessionView>[] {
  return [
    { title: 'SESSION', cell: (session) => session.id },
    { title: 'POOL', cell: (session) => session.pool },
    { title: 'TRANSPORT', cell: (session) => session.transport },
    { title: 'NODE', cell: (session) => session.node ?? '-' },
    { title: 'TERM', align: 'right', cell: (session) => session.term },
    { title: 'STATE', cell: (session) => session.state },
    { title: 'UNCOMMITTED', align: 'right', cell: (session) => session.uncommitted },
    { title: 'MIGRATIONS', align: 'right', cell: (session) => session.migrations },
    { title: 'AGE', align: 'right', cell: (session) => age(session.openedAt, nowMs) },
    { title: 'ADDRESS', cell: (session) => session.address },
  ]
}

export function operationColumns(nowMs: number): Column<Operation>[] {
  return [
    { title: 'OPERATION', cell: (operation) => operation.id },
    { title: 'KIND', cell: (operation) => operation.kind },
    { title: 'SUBJECT', cell: (operation) => operation.subject },
    { title: 'STATE', cell: operationStateCell },
    { title: 'MOVED', align: 'right', cell: (operation) => `${operation.moved}/${operation.total}` },
    { title: 'FAILED', align: 'right', cell: (operation) => operation.failed },
    { title: 'PAUSE P50', align: 'right', cell: ({ pauseMs }) => milliseconds(pauseMs?.p50 ?? null) },
    { title: 'PAUSE P99', align: 'right', cell: ({ pauseMs }) => milliseconds(pauseMs?.p99 ?? null) },
    {
      title: 'TOOK',
      align: 'right',
      cell: ({ startedAt, endedAt }) => milliseconds((endedAt ?? nowMs) - startedAt),
    },
  ]
}

function operationStateCell({ state }: Operation): Cell {
  const colours = { running: 'yellow', done: 'green', failed: 'red', cancelled: 'red' } as const
  return { text: state, colour: colours[state] }
}

export function printChannel(
  out: Output,
  { channel, members, gateways, unanswered, history }: ChannelView,
): void {
  const kept = history === null ? 'no history' : `history at ${history.epoch}-${history.offset}`
  out.line(printable(`${channel}: ${members} ${members === 1 ? 'member' : 'members'}, ${kept}`))
  out.table(Object.entries(gateways), [
    { title: 'GATEWAY', cell: ([id]) => id },
    { title: 'MEMBERS', align: 'right', cell: ([, count]) => count },
  ])
  for (const id of unanswered) out.line(printable(`${id} does not answer; its members are not counted.`))
}

export function printPlan(out: Output, plan: RebalanceResult): void {
  const change = `imbalance ${percent(plan.imbalanceBefore)}, ${percent(plan.imbalanceAfter)} after`
  if (plan.total === 0) {
    out.line(`pool ${printable(plan.pool)}: nothing to move, imbalance ${percent(plan.imbalanceBefore)}`)
    return
  }
  out.line(
    `pool ${printable(plan.pool)}: ${plan.total} to move${plan.dryRun ? ' (dry run, nothing moves)' : ''}, ${change}`,
  )
  out.table(plan.moves, [
    { title: 'FROM', cell: (move) => move.from },
    { title: 'TO', cell: (move) => move.to },
    { title: 'SESSIONS', align: 'right', cell: (move) => move.count },
  ])
}
