import type { CanaryView, SeenView } from '../gateway/canary-operator.ts'
import { age, type Cell, type Column, milliseconds } from './output.ts'

export function canaryColumns(nowMs: number): Column<CanaryView>[] {
  return [
    { title: 'CANARY', cell: (canary) => canary.id },
    { title: 'POOL', cell: (canary) => canary.pool },
    { title: 'VERSION', cell: (canary) => canary.version },
    { title: 'STATE', cell: stateCell },
    { title: 'SHARE', align: 'right', cell: (canary) => `${canary.percent} %` },
    {
      title: 'SESSIONS',
      align: 'right',
      cell: ({ sessions, poolSessions }) => `${sessions}/${poolSessions}`,
    },
    { title: 'MOVED', align: 'right', cell: (canary) => canary.moved },
    { title: 'RETURNED', align: 'right', cell: (canary) => canary.returned },
    { title: 'LEFT', align: 'right', cell: (canary) => canary.left },
    { title: 'FAILURES', align: 'right', cell: ({ seen }) => both(seen, ({ failures }) => String(failures)) },
    {
      title: 'MESSAGES TAKE',
      align: 'right',
      cell: ({ seen }) => both(seen, ({ messageMs }) => milliseconds(messageMs)),
    },
    { title: 'AGE', align: 'right', cell: (canary) => age(canary.startedAt, nowMs) },
    { title: 'WHY', cell: (canary) => canary.reason },
  ]
}

/** The version's, and the rest of the pool's. */
function both({ canary, others }: CanaryView['seen'], text: (seen: SeenView) => string): string {
  return `${text(canary)} : ${text(others)}`
}

function stateCell({ state }: CanaryView): Cell {
  const colours = {
    watching: 'yellow',
    passed: 'green',
    returning: 'red',
    returned: 'red',
    promoted: 'green',
    ended: 'dim',
  } as const
  return { text: state, colour: colours[state] }
}
