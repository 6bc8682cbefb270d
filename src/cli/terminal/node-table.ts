import type { NodeView } from '../../gateway/operator.ts'
import { type Colour, percent, printable } from '../output.ts'
import type { Line, Span } from './screen.ts'

export type NodeRow = Pick<
  NodeView,
  'id' | 'weight' | 'state' | 'health' | 'sessions' | 'share' | 'fairShare' | 'messagesPerSecond'
>

const stateColours: Record<string, Colour> = {
  active: 'green',
  draining: 'yellow',
  drained: 'dim',
  silent: 'yellow',
  down: 'red',
}
const widths = { node: 8, state: 8, weight: 6, sessions: 8, share: 7, rate: 7 }
const barMax = 40
/** Relative distance from the fair share that the planner leaves alone. */
const tolerance = 0.03

/** A head, and a line for each node: its share as a bar with a mark where it would be fair. */
export function nodeTable(nodes: readonly NodeRow[], columns: number, selected?: string): Line[] {
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
        {
          text: `${node.id === selected ? '▸' : ' '}${printable(node.id).padEnd(idWidth)}  `,
          ...(node.id === selected ? { colour: 'bold' } : {}),
        },
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
