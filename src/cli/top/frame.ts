import type { StatsSample } from '../../admin/stats.ts'
import type { GatewayView, NodeView, Operation } from '../../gateway/operator.ts'
import { operationProgress, operationTitle } from '../operation-text.ts'
import { age, milliseconds, percent, printable } from '../output.ts'
import { nodeTable } from '../terminal/node-table.ts'
import type { Line } from '../terminal/screen.ts'
import { sorted, type TopState } from './state.ts'

/** What was asked of the gateway last. */
export interface TopView {
  readonly now: number
  readonly url: string
  readonly gateways: readonly GatewayView[]
  readonly nodes: readonly NodeView[]
  readonly operations: readonly Operation[]
  /** By gateway: its newest sample. */
  readonly stats: Readonly<Record<string, StatsSample>>
  /** Event lines, the newest last. */
  readonly events: readonly string[]
  /** What was done last, or why it was not. */
  readonly message: string
}

const operationsShown = 4
const eventsShown = 6
const nodesMin = 3

/** The whole screen; in fewer rows fewer nodes are shown, around the one that is selected. */
export function frame(
  view: TopView,
  state: TopState,
  { columns, rows }: { columns: number; rows: number },
): Line[] {
  const head = [title(view), totals(view), ...gatewayLines(view), []]
  const said: Line = [{ text: ` ${printable(view.message)}`, colour: 'bold' }]
  const foot = [[], ...operationLines(view), [], ...eventLines(view), said, lastLine(state)]
  const nodes = sorted(view.nodes, state.order)
  const room = Math.max(nodesMin, rows - head.length - foot.length - 1)
  return [
    ...head,
    ...nodeTable(around(nodes, state.selected, room), columns, state.selected ?? nodes[0]?.id),
    ...foot,
  ]
}

function around(nodes: NodeView[], selected: string | null, room: number): NodeView[] {
  const at = Math.max(
    0,
    nodes.findIndex(({ id }) => id === selected),
  )
  const first = Math.max(0, Math.min(at - Math.floor(room / 2), nodes.length - room))
  return nodes.slice(first, first + room)
}

function title({ url, now, gateways }: TopView): Line {
  const self = gateways.find((gateway) => gateway.self)
  return [
    { text: ' Evenkeel', colour: 'bold' },
    {
      text: `   ${url}   ${self === undefined ? '' : `${printable(self.id)} up ${age(self.startedAt, now)}`}`,
    },
  ]
}

function totals({ nodes, stats }: TopView): Line {
  const active = nodes.filter(({ state }) => state === 'active')
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0)
  const samples = Object.values(stats)
  const imbalance = Math.max(0, ...samples.flatMap((sample) => Object.values(sample.imbalance)))
  const figures = [
    `nodes ${active.length} of ${nodes.length}`,
    `sessions ${sum(nodes.map(({ sessions }) => sessions))}`,
    `msg/s in ${sum(samples.map(({ messagesIn }) => messagesIn))} out ${sum(samples.map(({ messagesOut }) => messagesOut))}`,
    `imbalance ${percent(imbalance)}`,
    `runs ${sum(samples.map(({ runs }) => runs.running))}`,
  ]
  return [{ text: ` ${figures.join('   ')}` }]
}

function gatewayLines({ gateways, stats }: TopView): Line[] {
  const width = Math.max(7, ...gateways.map(({ id }) => id.length))
  return [
    [
      {
        text: ` ${['GATEWAY'.padEnd(width), 'STATE'.padEnd(8), 'CLIENTS'.padStart(8), 'LAG'.padStart(9), 'PAUSE P99'.padStart(10), 'MEMORY'.padStart(9)].join('  ')}`,
        colour: 'bold',
      },
    ],
    ...gateways.map(({ id, state }): Line => {
      const sample = stats[id]
      const figures =
        sample === undefined
          ? 'does not answer'
          : [
              String(sample.connections).padStart(8),
              milliseconds(sample.lagMs).padStart(9),
              milliseconds(sample.pauseMs?.p99 ?? null).padStart(10),
              `${Math.round(sample.memoryBytes / 1024 / 1024)} MiB`.padStart(9),
            ].join('  ')
      return [
        { text: ` ${printable(id).padEnd(width)}  ` },
        { text: state.padEnd(8), colour: state === 'active' ? 'green' : 'yellow' },
        { text: `  ${figures}` },
      ]
    }),
  ]
}

function operationLines({ operations }: TopView): Line[] {
  const latest = operations
    .toSorted(
      (a, b) => Number(b.state === 'running') - Number(a.state === 'running') || b.startedAt - a.startedAt,
    )
    .slice(0, operationsShown)
  return latest.map(
    (operation): Line => [
      { text: ` ${operation.state.padEnd(9)}`, colour: operation.state === 'running' ? 'yellow' : 'dim' },
      { text: printable(`${operationTitle(operation)}: ${operationProgress(operation)}`) },
    ],
  )
}

function eventLines({ events }: TopView): Line[] {
  return events.slice(-eventsShown).map((text): Line => [{ text: ` ${text}` }])
}

function lastLine({ prompt, order }: TopState): Line {
  if (prompt?.type === 'confirm')
    return [{ text: ` ${printable(prompt.text)} `, colour: 'bold' }, { text: 'y or n' }]
  if (prompt?.type === 'weight')
    return [{ text: ` Weight of ${printable(prompt.node)}: `, colour: 'bold' }, { text: `${prompt.typed}▁` }]
  const keys = `↑↓ select   d drain   a activate   w weight   r rebalance   s order (by ${order})   q quit`
  return [{ text: ` ${keys}`, colour: 'dim' }]
}
