import { byId, el, setAttribute, setText } from './dom.ts'
import { count, duration, milliseconds } from './format.ts'
import type { Operation } from './views.ts'

const shown = 6

const kinds: Record<string, string> = {
  drain: 'Drain of',
  'drain-gateway': 'Drain of gateway',
  rebalance: 'Rebalance of pool',
  migrate: 'Move of session',
}

/** Drains, rebalances and moves: how far they are and how they ended. */
export class OperationList {
  private readonly list = byId('operations')
  private readonly items = new Map<string, OperationItem>()

  update(operations: readonly Operation[]): void {
    const latest = [...operations]
      .sort(
        (a, b) => Number(b.state === 'running') - Number(a.state === 'running') || b.startedAt - a.startedAt,
      )
      .slice(0, shown)
    byId('operations-empty').hidden = latest.length > 0
    for (const [index, operation] of latest.entries()) {
      let item = this.items.get(operation.id)
      if (item === undefined) {
        item = new OperationItem(operation)
        this.items.set(operation.id, item)
      }
      item.update(operation)
      if (this.list.children[index] !== item.element)
        this.list.insertBefore(item.element, this.list.children[index] ?? null)
    }
    for (const [id, item] of this.items) {
      if (latest.some((operation) => operation.id === id)) continue
      item.element.remove()
      this.items.delete(id)
    }
  }
}

class OperationItem {
  readonly element: HTMLElement
  private readonly state = el('span', { class: 'badge' })
  private readonly progress = el('progress', { max: 1 })
  private readonly figures = el('span', { class: 'about' })

  constructor({ kind, subject, id }: Operation) {
    const title = `${kinds[kind] ?? kind} ${subject}`
    setAttribute(this.progress, 'aria-label', title)
    this.element = el(
      'li',
      { 'data-operation': id },
      el('span', { class: 'title' }, this.state, title),
      this.progress,
      this.figures,
    )
  }

  update({ state, total, moved, failed, pauseMs, startedAt, endedAt }: Operation): void {
    setText(this.state, state)
    setAttribute(this.state, 'data-state', state)
    this.progress.value = total === 0 ? Number(state !== 'running') : (moved + failed) / total
    const took = duration((endedAt ?? Date.now()) - startedAt)
    const pause =
      pauseMs === null ? '' : ` · pause p50 ${milliseconds(pauseMs.p50)}, p99 ${milliseconds(pauseMs.p99)}`
    const unmoved = failed === 0 ? '' : ` · ${count(failed)} failed`
    setText(this.figures, `${count(moved)} of ${count(total)} moved${unmoved}${pause} · ${took}`)
  }
}
