import { age, milliseconds, printable } from '../output.ts'
import { type NodeRow, nodeTable } from '../terminal/node-table.ts'
import type { Line, Span } from '../terminal/screen.ts'
import type { ClientsReport } from './clients-messages.ts'
import type { GatewayRow } from './cluster.ts'
import type { TimedNote } from './monitor.ts'

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

const sessionsWidth = 8
const gatewayWidths = [9, 23, 23]
const notesMin = 3
const notesMax = 10
/** Lines beside those of gateways, nodes and notes. */
const fixedLines = 9

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
      const text = ` ${cells([printable(id), publicUrl, internalUrl, held.padStart(sessionsWidth)])}`
      return [state === 'down' ? { text, colour: 'red' } : { text }]
    }),
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
