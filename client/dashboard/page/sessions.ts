import { type Api, ApiError } from './api.ts'
import type { Dialogs } from './dialogs.ts'
import { byId, el, replace, setText } from './dom.ts'
import { bytes, count, duration, time } from './format.ts'
import { sessionLink } from './panels.ts'
import type { NodeView, SessionDetails } from './views.ts'

const pageSize = '100'

/** The sessions of all nodes or of one, a page at a time. */
export class SessionList {
  private readonly api: Api
  private node = ''
  private next: string | null = null

  constructor(api: Api) {
    this.api = api
    byId('sessions-more').addEventListener('click', () => void this.load())
    byId('sessions-find').addEventListener('submit', (event) => {
      event.preventDefault()
      const id = byId<HTMLInputElement>('sessions-id').value.trim()
      if (id !== '') location.hash = `#/sessions/${encodeURIComponent(id)}`
    })
  }

  async show(node: string): Promise<void> {
    this.node = node
    this.next = null
    setText(byId('sessions-title'), node === '' ? 'Sessions' : `Sessions at ${node}`)
    replace(byId('sessions'))
    await this.load()
  }

  private async load(): Promise<void> {
    const { sessions, next } = await this.api.sessions({
      limit: pageSize,
      ...(this.node === '' ? {} : { node: this.node }),
      ...(this.next === null ? {} : { cursor: this.next }),
    })
    this.next = next
    byId('sessions-more').hidden = next === null
    byId('sessions').append(
      ...sessions.map((session) =>
        el(
          'tr',
          {},
          el('th', { scope: 'row' }, sessionLink(session.id)),
          el('td', {}, session.node ?? '–'),
          el('td', {}, session.transport),
          el('td', {}, el('span', { class: 'badge', 'data-state': session.state }, session.state)),
          el('td', { class: 'number' }, String(session.migrations)),
          el('td', { class: 'number' }, duration(Date.now() - session.openedAt)),
          el('td', {}, session.address),
        ),
      ),
    )
    byId('sessions-empty').hidden = byId('sessions').childElementCount > 0
  }
}

const reasons: Record<string, string> = {
  opened: 'it was new',
  recovered: 'its node was lost',
  resumed: 'it came from another gateway',
  rebalance: 'rebalancing',
  drain: 'a drain',
  operator: 'an operator moved it',
  'node-lost': 'its node was lost',
}

/** One session: where it is, and where it has been. */
export class SessionPage {
  private readonly api: Api
  private shown: SessionDetails | null = null
  private id = ''

  constructor(api: Api, dialogs: Dialogs, nodes: () => readonly NodeView[]) {
    this.api = api
    byId('session-migrate').addEventListener('click', () => {
      if (this.shown === null) return
      const { id, node, pool } = this.shown
      dialogs.migrate(
        id,
        node,
        nodes().filter((one) => one.pool === pool),
      )
    })
    byId('session-close').addEventListener('click', () => {
      if (this.shown !== null) dialogs.closeSession(this.shown.id)
    })
  }

  async show(id: string): Promise<void> {
    if (id !== this.id) {
      this.id = id
      this.shown = null
      setText(byId('session-title'), id)
      replace(byId('session-facts'))
      replace(byId('session-history'))
    }
    try {
      this.shown = await this.api.session(id)
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error
      this.shown = null
    }
    if (id !== this.id) return
    const gone = this.shown === null
    byId('session-gone').hidden = !gone
    for (const action of ['session-migrate', 'session-close']) byId<HTMLButtonElement>(action).disabled = gone
    if (this.shown !== null) draw(this.shown)
  }
}

function draw(session: SessionDetails): void {
  const facts: [string, string][] = [
    ['node', session.node ?? 'none: it waits for one'],
    ['state', session.state],
    ['pool', session.pool],
    ['transport', session.transport],
    ['client', session.address],
    ['connected for', duration(Date.now() - session.openedAt)],
    ['term', String(session.term)],
    ['migrations', count(session.migrations)],
    ['not committed', count(session.uncommitted)],
    ['unread', bytes(session.pendingBytes)],
  ]
  replace(
    byId('session-facts'),
    ...facts.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]),
  )
  const { assignments } = session
  replace(
    byId('session-history'),
    ...assignments
      .map(({ node, term, at, reason }, index) => {
        const until = assignments[index + 1]?.at ?? Date.now()
        return el(
          'li',
          { 'data-node': node },
          el('time', {}, time(at)),
          el('b', {}, node),
          el(
            'span',
            { class: 'about' },
            `term ${term} · ${duration(until - at)} · ${reasons[reason] ?? reason}`,
          ),
        )
      })
      .reverse(),
  )
}
