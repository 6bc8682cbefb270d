import { byId, el, setAttribute, setText } from './dom.ts'
import { count, milliseconds, percent } from './format.ts'
import type { NodeView } from './views.ts'

export interface NodeActions {
  drain(node: NodeView): void
  activate(node: NodeView): void
  weigh(node: NodeView): void
}

const rowPx = 44
/** More are scrolled. */
const rowsSeen = 10
/** Rows that are drawn above and below what is seen. */
const overscan = 4
/** A node farther than this from its fair share is marked. */
const tolerated = 0.03

type Order = 'name' | 'distance' | 'sessions'

const orders: Record<Order, (a: NodeView, b: NodeView) => number> = {
  name: (a, b) => a.pool.localeCompare(b.pool) || a.id.localeCompare(b.id, 'en', { numeric: true }),
  distance: (a, b) => Math.abs(distance(b)) - Math.abs(distance(a)),
  sessions: (a, b) => b.sessions - a.sessions,
}

/** Relative distance from the fair share; 0 where a node has none. */
export function distance({ share, fairShare }: NodeView): number {
  return fairShare === 0 ? 0 : share / fairShare - 1
}

/**
 * Nodes as bars against their weighted fair share. However many there are, only the rows that are seen exist; their table
 * says how many there are in all.
 */
export class NodeTable {
  private readonly scroller = byId('nodes-scroller')
  private readonly body = byId('nodes-body')
  private readonly rows = new Map<string, NodeRow>()
  private readonly actions: NodeActions
  private nodes: NodeView[] = []
  private shown: NodeView[] = []
  private order: Order = 'name'
  private filter = ''
  private scale = 1
  private byPool = new Map<string, number>()

  constructor(actions: NodeActions) {
    this.actions = actions
    this.scroller.addEventListener('scroll', () => this.layout(), { passive: true })
    new ResizeObserver(() => this.layout()).observe(this.scroller)
    byId<HTMLSelectElement>('nodes-order').addEventListener('change', (event) => {
      this.order = (event.target as HTMLSelectElement).value as Order
      this.refresh()
    })
    byId<HTMLInputElement>('nodes-filter').addEventListener('input', (event) => {
      this.filter = (event.target as HTMLInputElement).value.trim().toLowerCase()
      this.refresh()
    })
  }

  update(nodes: NodeView[]): void {
    this.nodes = nodes
    this.byPool = new Map()
    for (const { pool, sessions } of nodes) this.byPool.set(pool, (this.byPool.get(pool) ?? 0) + sessions)
    this.scale = Math.max(1, ...nodes.map((node) => Math.max(node.sessions, this.fair(node)))) * 1.08
    this.refresh()
  }

  /** Where a node's bar ends now, in the coordinates of the window; null: it is not seen. */
  endOfBar(id: string): { x: number; y: number } | null {
    const row = this.rows.get(id)
    return row === undefined ? null : row.endOfBar(this.scroller.getBoundingClientRect())
  }

  private fair(node: NodeView): number {
    return node.fairShare * (this.byPool.get(node.pool) ?? 0)
  }

  private refresh(): void {
    const { filter } = this
    const fits = ({ id, pool, state, host, version }: NodeView) =>
      filter === '' ||
      [id, pool, state, host, version ?? ''].some((text) => text.toLowerCase().includes(filter))
    this.shown = this.nodes.filter(fits).sort(orders[this.order])
    setAttribute(byId('nodes-table'), 'aria-rowcount', String(this.shown.length + 1))
    setText(
      byId('nodes-count'),
      this.shown.length === this.nodes.length
        ? count(this.nodes.length)
        : `${this.shown.length} of ${count(this.nodes.length)}`,
    )
    byId('nodes-empty').hidden = this.nodes.length > 0
    const height = `${this.shown.length * rowPx}px`
    if (this.body.style.height !== height) {
      this.body.style.height = height
      this.scroller.style.height = `${Math.min(rowsSeen, this.shown.length) * rowPx + 1}px`
    }
    this.layout()
  }

  private layout(): void {
    const { scrollTop, clientHeight } = this.scroller
    const first = Math.max(0, Math.floor(scrollTop / rowPx) - overscan)
    const last = Math.min(this.shown.length, Math.ceil((scrollTop + clientHeight) / rowPx) + overscan)
    const seen = new Set<string>()
    for (let index = first; index < last; index++) {
      const node = this.shown[index]!
      seen.add(node.id)
      let row = this.rows.get(node.id)
      if (row === undefined) {
        row = new NodeRow(this.actions)
        this.rows.set(node.id, row)
        this.body.append(row.element)
      }
      row.update(node, index, this.fair(node), this.scale)
    }
    for (const [id, row] of this.rows) {
      if (seen.has(id) || row.element.contains(document.activeElement)) continue
      row.element.remove()
      this.rows.delete(id)
    }
  }
}

class NodeRow {
  readonly element: HTMLElement
  private readonly name = el('a', { class: 'name' })
  private readonly about = el('span', { class: 'about' })
  private readonly badge = el('span', { class: 'badge' })
  private readonly fill = el('span', { class: 'fill' })
  private readonly mark = el('span', { class: 'mark' })
  private readonly bar = el('span', { class: 'bar' }, this.fill, this.mark)
  private readonly sessions = el('span', { class: 'figure' })
  private readonly off = el('span', { class: 'off' })
  private readonly traffic = el('span', { class: 'figure' })
  private readonly rtt = el('span', { class: 'figure' })
  private readonly weight: HTMLButtonElement
  private readonly toggle: HTMLButtonElement
  private node!: NodeView

  constructor(actions: NodeActions) {
    this.weight = el('button', { type: 'button', class: 'quiet', onclick: () => actions.weigh(this.node) })
    this.toggle = el('button', {
      type: 'button',
      onclick: () => (isActive(this.node) ? actions.drain(this.node) : actions.activate(this.node)),
    })
    const cell = (className: string, ...children: Node[]) =>
      el('div', { role: 'cell', class: className }, ...children)
    this.element = el(
      'div',
      { role: 'row', class: 'row' },
      cell('who', this.badge, this.name, this.about),
      cell('load', this.bar),
      cell('counts', this.sessions, this.off),
      cell('traffic', this.traffic),
      cell('rtt', this.rtt),
      cell('steer', this.weight, this.toggle),
    )
  }

  update(node: NodeView, index: number, fair: number, scale: number): void {
    this.node = node
    const transform = `translateY(${index * rowPx}px)`
    if (this.element.style.transform !== transform) this.element.style.transform = transform
    setAttribute(this.element, 'aria-rowindex', String(index + 2))
    setAttribute(this.element, 'data-node', node.id)
    setText(this.name, node.id)
    setAttribute(this.name, 'href', `#/sessions?node=${encodeURIComponent(node.id)}`)
    setText(this.about, [node.pool, !node.version ? '' : `v${node.version}`].filter(Boolean).join(' · '))
    const state = node.state === 'active' && node.health === 'suspect' ? 'suspect' : node.state
    setText(this.badge, state)
    setAttribute(this.badge, 'data-state', state)
    const fill = `scaleX(${node.sessions / scale})`
    if (this.fill.style.transform !== fill) this.fill.style.transform = fill
    const mark = `${(100 * fair) / scale}%`
    if (this.mark.style.left !== mark) this.mark.style.left = mark
    this.mark.hidden = fair === 0
    const away = distance(node)
    const isOff = fair > 0 && Math.abs(away) > tolerated && Math.abs(node.sessions - fair) >= 1
    setAttribute(this.bar, 'data-off', !isOff ? '' : away > 0 ? 'over' : 'under')
    setText(this.sessions, count(node.sessions))
    setText(this.off, fair === 0 ? '' : `${away >= 0 ? '+' : '−'}${percent(Math.abs(away))}`)
    setText(this.traffic, `${count(Math.round(node.messagesPerSecond))}/s`)
    setText(this.rtt, milliseconds(node.linkRttMs))
    setText(this.weight, `× ${node.weight}`)
    setAttribute(this.weight, 'aria-label', `weight of ${node.id}: ${node.weight}; change`)
    const verb = isActive(node) ? 'Drain' : 'Activate'
    setText(this.toggle, verb)
    setAttribute(this.toggle, 'aria-label', `${verb} ${node.id}`)
    this.toggle.disabled = node.state === 'down'
  }

  endOfBar(within: DOMRect): { x: number; y: number } | null {
    const { right, bottom, top } = this.fill.getBoundingClientRect()
    const y = (top + bottom) / 2
    return y < within.top || y > within.bottom ? null : { x: right, y }
  }
}

function isActive({ state }: NodeView): boolean {
  return state === 'active'
}
