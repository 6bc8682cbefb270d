import type { NodeView } from '../../gateway/operator.ts'
import { age, type Colour, milliseconds, percent, printable } from '../output.ts'
import type { ClientsReport } from './clients-messages.ts'
import type { GatewayRow } from './cluster.ts'
import type { TimedNote } from './monitor.ts'
import type { Line, Span } from './screen.ts'

export type NodeRow = Pick<
  NodeView,
  'id' | 'weight' | 'state' | 'health' | 'sessions' | 'share' | 'fairShare' | 'messagesPerSecond'
>

export interface DemoState {
  now: number
  /** null while starting. */
  readyAt: number | null
  /** For a browser. */
  pageUrl: string
  redisUrl: string | null
  gateways: readonly GatewayRow[]
  nodes: NodeRow[]
  clientsWanted: number
  clients: ClientsReport
  migrations: number
  pauseMs: { p50: number; p99: number } | null
  redelivered: number
  /** Oldest first. */
  notes: readonly TimedNote[]
  /** Keys are read. */
  keys: boolean
}

const stateColours: Record<string, Colour> = {
  active: 'green',
  draining: 'yellow',
  drained: 'dim',
  silent: 'yellow',
  down: 'red',
}
const widths = { node: 8, state: 8, weight: 6, sessions: 8, share: 7, rate: 7 }
const gatewayWidths = [9, 23, 23]
const barMax = 40
const notesMin = 3
const notesMax = 10
/** Lines beside those of gateways, nodes and notes. */
const fixedLines = 9
/** Relative distance from the fair share that the planner leaves alone. */
const tolerance = 0.03

export function startingFrame(): Line[] {
  return [title('starting…')]
}

export function frame(state: DemoState, { columns, rows }: { columns: number; rows: number }): Line[] {
  const gatewayLines = gatewayTable(state.gateways)
  const fixed = fixedLines + gatewayLines.length
  const shown = fitting(state.nodes, Math.max(1, rows - fixed - 1 - notesMin))
  const hidden = state.nodes.length - shown.length
  const nodeLines = nodeTable(shown, columns)
  if (hidden > 0) nodeLines.push([{ text: ` … and ${hidden} more`, colour: 'dim' }])
  const notesFit = Math.min(notesMax, Math.max(notesMin, rows - fixed - nodeLines.length))
  return [
    title(
      state.readyAt === null ? 'starting…' : `up ${age(state.readyAt, state.now)}`,
      `   page ${state.pageUrl}${state.redisUrl === null ? '' : `   ${state.redisUrl}`}`,
    ),
    ...gatewayLines,
    [],
    ...nodeLines,
    [],
    ...totals(state),
    [],
    ...noteLines(state.notes, notesFit),
    [],
    legend(state.keys),
  ]
}

/** Where there is no room for all, what is down goes first. */
function fitting(nodes: NodeRow[], max: number): NodeRow[] {
  if (nodes.length <= max) return nodes
  const live = nodes.filter(({ state }) => state !== 'down')
  // One line says how many are hidden.
  return live.slice(0, max - 1)
}

function title(status: string, place = ''): Line {
  return [{ text: ' Evenkeel demo', colour: 'bold' }, { text: `   ${status}${place}` }]
}

function gatewayTable(gateways: readonly GatewayRow[]): Line[] {
  const [only] = gateways
  if (only !== undefined && gateways.length === 1) {
    return [
      [
        { text: ' public ', colour: 'dim' },
        { text: only.publicUrl },
        { text: '   internal ', colour: 'dim' },
        { text: only.internalUrl },
      ],
    ]
  }
  const cells = (row: readonly string[]) =>
    row.map((text, index) => text.padEnd(gatewayWidths[index] ?? 0)).join('  ')
  return [
    [{ text: ` ${cells(['GATEWAY', 'PUBLIC', 'INTERNAL', 'SESSIONS'])}`, colour: 'bold' }],
    ...gateways.map(({ id, state, publicUrl, internalUrl, sessions }): Line => {
      const held = state === 'down' ? 'down' : String(sessions)
      const text = ` ${cells([printable(id), publicUrl, internalUrl, held.padStart(widths.sessions)])}`
      return [state === 'down' ? { text, colour: 'red' } : { text }]
    }),
  ]
}

function nodeTable(nodes: NodeRow[], columns: number): Line[] {
  const idWidth = Math.max(widths.node, ...nodes.map(({ id }) => id.length))
  const { state, weight, sessions, share, rate } = widths
  const gaps = 13
  const barWidth = Math.min(
    barMax,
    Math.max(0, columns - 1 - idWidth - state - weight - sessions - share - rate - gaps),
  )
  const scale = Math.max(...nodes.flatMap((node) => [node.share, node.fairShare]), Number.MIN_VALUE)
  const head = [
    'NODE'.padEnd(idWidth),
    'STATE'.padEnd(state),
    'WEIGHT'.padStart(weight),
    'SESSIONS'.padStart(sessions),
    'SHARE'.padStart(share),
    '(│ = fair)'.slice(0, barWidth).padEnd(barWidth),
    'MSG/S'.padStart(rate),
  ]
  return [
    [{ text: ` ${head.join('  ')}`, colour: 'bold' }],
    ...nodes.map((node): Line => {
      const status = node.health === 'suspect' && node.state === 'active' ? 'silent' : node.state
      const numbers = [
        String(node.weight).padStart(weight),
        String(node.sessions).padStart(sessions),
        percent(node.share).padStart(share),
      ]
      return [
        { text: ` ${printable(node.id).padEnd(idWidth)}  ` },
        { text: status.padEnd(state), colour: stateColours[status] ?? 'dim' },
        { text: `  ${numbers.join('  ')}  ` },
        ...bar(node, scale, barWidth),
        { text: `  ${(node.state === 'down' ? '-' : node.messagesPerSecond.toFixed(1)).padStart(rate)}` },
      ]
    }),
  ]
}

/** The share as a bar, with a mark where it would be fair. */
function bar({ share, fairShare }: NodeRow, scale: number, width: number): Span[] {
  const filled = Math.round((share / scale) * width)
  const cells = '█'.repeat(filled) + '·'.repeat(width - filled)
  const isFair = Math.abs(share - fairShare) <= fairShare * tolerance
  const colour = isFair ? 'green' : 'yellow'
  if (fairShare === 0 || width === 0) return [{ text: cells, colour }]
  const mark = Math.max(0, Math.round((fairShare / scale) * width) - 1)
  return [
    { text: cells.slice(0, mark), colour },
    { text: '│', colour: 'bold' },
    { text: cells.slice(mark + 1), colour },
  ]
}

function totals(state: DemoState): Line[] {
  const { clients, clientsWanted, pauseMs } = state
  const rate = state.nodes.reduce((sum, node) => sum + node.messagesPerSecond, 0)
  const pause = pauseMs === null ? '-' : `${milliseconds(pauseMs.p50)} / ${milliseconds(pauseMs.p99)}`
  const numbers = ` migrations ${state.migrations}   pause p50/p99 ${pause}   redelivered ${state.redelivered}`
  if (clientsWanted === 0) {
    const urls = state.gateways.map(({ publicUrl }) => `${publicUrl.replace('http', 'ws')}/ws`)
    return [[{ text: ` no clients: connect yours to ${urls.join(' or ')}` }], [{ text: numbers }]]
  }
  const fault = (name: string, count: number): Span => ({
    text: `   ${name} ${count}`,
    colour: count === 0 ? 'green' : 'red',
  })
  return [
    [
      {
        text: ` clients ${clients.connected} of ${clientsWanted}   ${rate.toFixed(0)} msg/s   ${clients.answered} answered`,
      },
    ],
    [{ text: numbers }],
    [
      { text: ' clients counted' },
      fault('lost', clients.lost),
      fault('doubled', clients.doubled),
      fault('reordered', clients.reordered),
      fault('closed', clients.closed),
    ],
  ]
}

function noteLines(notes: readonly TimedNote[], fit: number): Line[] {
  const lines = notes.slice(-fit).map(({ at, text, colour }): Line => {
    const body = { text: printable(text) }
    return [
      { text: ` ${new Date(at).toTimeString().slice(0, 8)}  `, colour: 'dim' },
      colour === undefined ? body : { ...body, colour },
    ]
  })
  // Always as many lines, so that what is below stays where it is.
  while (lines.length < fit) lines.push([])
  return lines
}

function legend(keys: boolean): Line {
  if (!keys) return [{ text: ' Ctrl-C ends the demo (stdin is no terminal, so there are no keys)' }]
  const key = (name: string, meaning: string): Line => [
    { text: ` ${name} `, colour: 'bold' },
    { text: `${meaning}  ` },
  ]
  return [
    ...key('a', 'add a node'),
    ...key('k', 'kill one'),
    ...key('d', 'drain one'),
    ...key('r', 'rebalance'),
    ...key('q', 'quit'),
  ]
}
