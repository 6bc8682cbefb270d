import type { NodeView } from '../../gateway/operator.ts'

/** What the keys of `evenkeel top` have come to. */
export interface TopState {
  /** The node that keys are about; null: the first one. */
  readonly selected: string | null
  readonly order: Order
  readonly prompt: Prompt | null
}

export type Order = 'name' | 'distance' | 'sessions'

/** A question that is open: `y` or Enter says yes, all other keys no; a weight is typed. */
export type Prompt =
  | { readonly type: 'confirm'; readonly text: string; readonly action: TopAction }
  | { readonly type: 'weight'; readonly node: string; readonly typed: string }

export type TopAction =
  | { readonly do: 'drain' | 'activate'; readonly node: string }
  | { readonly do: 'weight'; readonly node: string; readonly weight: number }
  /** The plan is asked for, and becomes a question itself. */
  | { readonly do: 'plan' }
  | { readonly do: 'rebalance' }
  | { readonly do: 'quit' }

export const firstState: TopState = { selected: null, order: 'name', prompt: null }

const orders: readonly Order[] = ['name', 'distance', 'sessions']
const digitsMax = 10

const compare: Record<Order, (a: NodeView, b: NodeView) => number> = {
  name: (a, b) => a.pool.localeCompare(b.pool) || a.id.localeCompare(b.id, 'en', { numeric: true }),
  distance: (a, b) => distance(b) - distance(a),
  sessions: (a, b) => b.sessions - a.sessions,
}

export function sorted(nodes: readonly NodeView[], order: Order): NodeView[] {
  return nodes.toSorted(compare[order])
}

/** One key: the state after it, and what is to be done. */
export function press(
  state: TopState,
  key: string,
  nodes: readonly NodeView[],
): { state: TopState; action: TopAction | null } {
  const { prompt } = state
  if (prompt?.type === 'confirm') {
    const yes = key === 'y' || key === '\r'
    return { state: { ...state, prompt: null }, action: yes ? prompt.action : null }
  }
  if (prompt?.type === 'weight') return type(state, prompt, key)

  const rows = sorted(nodes, state.order)
  const at = Math.max(
    0,
    rows.findIndex(({ id }) => id === state.selected),
  )
  const node = rows[at]
  const only = (change: Partial<TopState>) => ({ state: { ...state, ...change }, action: null })
  const act = (action: TopAction) => ({ state, action })
  if (key === 'q') return act({ do: 'quit' })
  if (key === 'r') return act({ do: 'plan' })
  if (key === 's') return only({ order: orders[(orders.indexOf(state.order) + 1) % orders.length]! })
  if (node === undefined) return only({})
  if (key === 'down' || key === 'j') return only({ selected: rows[Math.min(rows.length - 1, at + 1)]!.id })
  if (key === 'up' || key === 'k') return only({ selected: rows[Math.max(0, at - 1)]!.id })
  const { id } = node
  if (key === 'd') {
    const text = `Drain ${id}? Its ${node.sessions} sessions move to other nodes.`
    return only({ selected: id, prompt: { type: 'confirm', text, action: { do: 'drain', node: id } } })
  }
  if (key === 'a') {
    const action = { do: 'activate', node: id } as const
    return only({ selected: id, prompt: { type: 'confirm', text: `Activate ${id}?`, action } })
  }
  if (key === 'w') return only({ selected: id, prompt: { type: 'weight', node: id, typed: '' } })
  return only({})
}

function type(
  state: TopState,
  prompt: Prompt & { type: 'weight' },
  key: string,
): { state: TopState; action: TopAction | null } {
  const typed = (text: string) => ({ state: { ...state, prompt: { ...prompt, typed: text } }, action: null })
  if (/^[0-9.]$/.test(key)) return typed((prompt.typed + key).slice(0, digitsMax))
  if (key === '\u007f' || key === '\b') return typed(prompt.typed.slice(0, -1))
  const weight = Number(prompt.typed)
  const given = key === '\r' && weight > 0
  return {
    state: { ...state, prompt: null },
    action: given ? { do: 'weight', node: prompt.node, weight } : null,
  }
}

function distance({ share, fairShare }: NodeView): number {
  return fairShare === 0 ? 0 : Math.abs(share / fairShare - 1)
}
