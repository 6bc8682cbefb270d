import { byId, el, replace, setText } from './dom.ts'
import { bytes, count, duration, milliseconds, time } from './format.ts'
import type { GatewayView, SessionView, Stats } from './views.ts'

const eventsKept = 500
const eventsShown = 12

type Event = { type: string; at: number } & Record<string, unknown>

/** What happens, the newest first. Single migrations are counted, not listed: a drain has thousands. */
export class EventLog {
  private readonly events: Event[] = []
  private dirty = true

  add(event: Event): void {
    if (event.type === 'migration' && event.outcome === 'moved') return
    this.events.unshift(event)
    if (this.events.length > eventsKept) this.events.pop()
    this.dirty = true
  }

  draw(): void {
    if (!this.dirty) return
    this.dirty = false
    const line = (event: Event) => el('li', {}, el('time', {}, time(event.at)), ' ', eventText(event))
    replace(byId('events'), ...this.events.slice(0, eventsShown).map(line))
    replace(byId('all-events'), ...this.events.map(line))
    byId('events-empty').hidden = this.events.length > 0
  }
}

function eventText(event: Event): string {
  const { type, at: _at, ...rest } = event
  if (type === 'node-up') return `${rest.node} joined pool ${rest.pool}`
  if (type === 'node-down') return `${rest.node} is down: ${rest.reason}`
  if (type === 'node-suspect') return `${rest.node} is silent`
  if (type === 'node-healthy') return `${rest.node} is heard again`
  if (type === 'node-weight') return `${rest.node} has weight ${rest.weight}`
  if (type === 'node-state') return `${rest.node} is ${rest.state}`
  if (type === 'migration') return `session ${rest.session} stayed at ${rest.from}: ${rest.outcome}`
  if (type === 'plan') {
    const moves = (rest.moves as { count: number }[]).reduce((sum, move) => sum + move.count, 0)
    return `plan for pool ${rest.pool}: ${count(moves)} moves`
  }
  if (type === 'operation') {
    const { kind, subject, state } = rest.operation as { kind: string; subject: string; state: string }
    return `${kind} of ${subject}: ${state}`
  }
  const details = Object.entries(rest).map(
    ([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : value}`,
  )
  return `${type}: ${details.join(', ')}`
}

export function drawGateways(
  gateways: readonly GatewayView[],
  latest: ReadonlyMap<string, Stats>,
  drain: (gateway: string) => void,
): void {
  const rows = gateways.map(({ id, state, startedAt, self }) => {
    const stats = latest.get(id)
    return el(
      'tr',
      {},
      el('th', { scope: 'row' }, id, self ? el('small', {}, ' this one') : null),
      el('td', {}, el('span', { class: 'badge', 'data-state': state }, state)),
      el('td', { class: 'number' }, stats === undefined ? '–' : count(stats.connections)),
      el('td', { class: 'number' }, stats === undefined ? '–' : milliseconds(stats.lagMs)),
      el('td', { class: 'number' }, stats === undefined ? '–' : bytes(stats.memoryBytes)),
      el('td', { class: 'number' }, duration(Date.now() - startedAt)),
      el(
        'td',
        {},
        el(
          'button',
          {
            type: 'button',
            disabled: state === 'draining',
            'aria-label': `Drain gateway ${id}`,
            onclick: () => drain(id),
          },
          'Drain',
        ),
      ),
    )
  })
  const body = byId('gateways')
  // A row that is pressed must not be taken away under the finger.
  if (!body.contains(document.activeElement)) replace(body, ...rows)
}

export function drawSlow(sessions: readonly SessionView[]): void {
  byId('slow-empty').hidden = sessions.length > 0
  replace(
    byId('slow'),
    ...[...sessions]
      .sort((a, b) => b.pendingBytes - a.pendingBytes)
      .slice(0, eventsShown)
      .map(({ id, pendingBytes, node }) =>
        el('li', {}, sessionLink(id), ` ${bytes(pendingBytes)} unread · at ${node ?? 'no node'}`),
      ),
  )
}

export function sessionLink(id: string): HTMLElement {
  return el('a', { href: `#/sessions/${encodeURIComponent(id)}`, class: 'id' }, id)
}

export function drawFigures(figures: Record<string, string>): void {
  for (const [id, text] of Object.entries(figures)) setText(byId(`figure-${id}`), text)
}
