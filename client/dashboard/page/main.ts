import 'uplot/dist/uPlot.min.css'
import '../style.css'
import { Api, ApiError } from './api.ts'
import { Dialogs } from './dialogs.ts'
import { byId, setText } from './dom.ts'
import { Flows } from './flows.ts'
import { count, milliseconds, percent } from './format.ts'
import { History } from './history.ts'
import { distance, NodeTable } from './nodes.ts'
import { OperationList } from './operations.ts'
import { drawFigures, drawGateways, drawSlow, EventLog } from './panels.ts'
import { Plots } from './plots.ts'
import { SessionList, SessionPage } from './sessions.ts'
import type { NodeView } from './views.ts'

const pollMs = 1_000
const retryMs = 2_000

const api = new Api()
const history = new History()
const events = new EventLog()
const dialogs = new Dialogs(api, () => void refresh())
const table = new NodeTable({
  drain: (node) => dialogs.drain(node),
  activate: (node) => dialogs.activate(node),
  weigh: (node) => dialogs.weigh(node),
})
const flows = new Flows(byId<HTMLCanvasElement>('flows'), (node) => table.endOfBar(node))
const operations = new OperationList()
const plots = new Plots()
const list = new SessionList(api)
const page = new SessionPage(api, dialogs, () => nodes)
let nodes: NodeView[] = []
let refreshing: Promise<void> | null = null

function route(): { view: string; session: string; node: string } {
  const [path = '', query = ''] = location.hash.slice(1).split('?')
  const [, view = '', session = ''] = path.split('/')
  return {
    view: session === '' ? view || 'overview' : 'session',
    session: decodeURIComponent(session),
    node: new URLSearchParams(query).get('node') ?? '',
  }
}

async function show(): Promise<void> {
  const { view, session, node } = route()
  for (const section of document.querySelectorAll<HTMLElement>('main > section'))
    section.hidden = section.dataset.view !== view
  for (const link of document.querySelectorAll('nav a')) {
    if (link.getAttribute('href') === `#/${view === 'overview' ? '' : view}`)
      link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  await guarded(async () => {
    if (view === 'sessions') await list.show(node)
    else await refresh()
    if (view === 'session') await page.show(session)
  })
}

/** Asks for everything that the view shows; one round at a time. */
function refresh(): Promise<void> {
  refreshing ??= poll().finally(() => {
    refreshing = null
  })
  return refreshing
}

async function poll(): Promise<void> {
  const [newNodes, gateways, newOperations, slow] = await Promise.all([
    api.nodes(),
    api.gateways(),
    api.operations(),
    api.sessions({ slow: 'true', limit: '50' }),
  ])
  await Promise.all(
    gateways.map(async ({ id }) => {
      // One that does not answer leaves a gap in its lines.
      const samples = await api.stats(id, history.since(id)).catch(() => [])
      history.addStats(id, samples)
    }),
  )
  nodes = newNodes
  const now = Date.now()
  history.addNodes(now, nodes)
  history.trim(now)
  const { view, session } = route()
  setText(byId('gateway'), gateways.find(({ self }) => self)?.id ?? '')
  if (view === 'session') await page.show(session)
  if (view === 'overview') {
    const latest = history.latest()
    table.update(nodes)
    operations.update(newOperations)
    drawGateways(gateways, latest, (gateway) => dialogs.drainGateway(gateway))
    drawSlow(slow.sessions)
    figures(latest)
    requestAnimationFrame(() => plots.draw(history, nodes.map(({ id }) => id).sort()))
  }
  events.draw()
}

function figures(latest: ReturnType<History['latest']>): void {
  const samples = [...latest.values()]
  const total = (of: (sample: (typeof samples)[number]) => number) =>
    samples.reduce((sum, one) => sum + of(one), 0)
  const pause = samples.map(({ pauseMs }) => pauseMs).find((one) => one !== null)
  drawFigures({
    nodes: `${nodes.filter(({ state }) => state === 'active').length} of ${nodes.length}`,
    sessions: count(nodes.reduce((sum, node) => sum + node.sessions, 0)),
    messages: count(total(({ messagesIn, messagesOut }) => messagesIn + messagesOut)),
    imbalance: percent(
      nodes
        .filter(({ state }) => state === 'active')
        .reduce((most, node) => Math.max(most, Math.abs(distance(node))), 0),
    ),
    pause: milliseconds(pause?.p99 ?? null),
    runs: count(total(({ runs }) => runs.running)),
  })
}

async function guarded(work: () => Promise<void>): Promise<void> {
  try {
    await work()
    live(true)
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 401))
      live(false, error instanceof ApiError ? error.message : 'the gateway does not answer')
  }
}

function live(isLive: boolean, why = ''): void {
  const state = byId('state')
  state.dataset.state = isLive ? 'active' : 'down'
  setText(state, isLive ? 'live' : why)
}

async function follow(): Promise<void> {
  for (;;) {
    const stop = new AbortController()
    await api
      .events((event) => {
        events.add(event)
        if (event.type === 'migration' && event.outcome === 'moved')
          flows.moved(String(event.from), String(event.to))
      }, stop.signal)
      .catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, retryMs))
    if (byId('sign-in').hidden === false) return
  }
}

let started = false

function start(): void {
  byId('sign-in').hidden = true
  byId('app').hidden = false
  void show()
  void follow()
  if (started) return
  started = true
  setInterval(() => {
    if (!document.hidden && !byId('app').hidden) void guarded(refresh)
  }, pollMs)
}

api.unauthorized = () => {
  if (api.signedIn) setText(byId('sign-in-problem'), 'This is not the token.')
  api.signOut()
  byId('app').hidden = true
  byId('sign-in').hidden = false
  byId('token').focus()
}

byId('sign-in').addEventListener('submit', (event) => {
  event.preventDefault()
  const input = byId<HTMLInputElement>('token')
  api.signIn(input.value)
  input.value = ''
  setText(byId('sign-in-problem'), '')
  api.nodes().then(start, (error) => {
    if (!(error instanceof ApiError && error.status === 401))
      setText(byId('sign-in-problem'), String(error.message))
  })
})

byId('rebalance').addEventListener('click', () => void dialogs.rebalance())
addEventListener('hashchange', () => void show())
// The colours of plots are read from the style when they are made.
const dark = matchMedia('(prefers-color-scheme: dark)')
const scheme = () => {
  document.documentElement.dataset.scheme = dark.matches ? 'dark' : 'light'
}
dark.addEventListener('change', scheme)
scheme()
api.nodes().then(start, (error) => {
  if (!(error instanceof ApiError && error.status === 401)) start()
})
