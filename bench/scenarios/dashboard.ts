import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'
import { readPages } from '../../src/admin/pages.ts'
import { atMost } from '../report/goals.ts'
import { noRemarks } from '../report/remarks.ts'
import { figure } from '../report/table.ts'
import type { Report, Scenario, Settings } from './scenario.ts'

const nodes = 1_000
const sessionsPerNode = 100
const migrationsPerSecond = 500
const root = fileURLToPath(new URL('../../', import.meta.url))

export const dashboard: Scenario = {
  name: 'dashboard',
  summary: `frames of the dashboard with ${nodes.toLocaleString('en-US')} simulated nodes, in Chromium`,
  run,
}

interface TraceEvent {
  name: string
  ph: string
  pid: number
  tid: number
  dur?: number
  tdur?: number
  args: { name?: string }
}

async function run(settings: Settings): Promise<Report> {
  execFileSync('npx', ['vite', 'build'], { cwd: root, stdio: 'ignore' })
  const server = await startSimulation()
  const { port } = server.address() as AddressInfo
  const browser = await chromium.launch({
    executablePath: process.env.EVENKEEL_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu'],
  })
  try {
    const page = await browser.newPage({ viewport: { width: 1400, height: 1000 } })
    await page.goto(`http://127.0.0.1:${port}/`)
    await page.locator('[role=row][data-node="node-0001"]').waitFor()
    await sleep(2_000)
    await browser.startTracing(page, { categories: ['toplevel', 'devtools.timeline', '__metadata'] })
    const rounds = settings.quick ? 5 : 20
    for (let round = 0; round < rounds; round++) {
      settings.progress(`second ${round + 1} of ${rounds}`)
      // Half of the time it is scrolled as well.
      await page.locator('#nodes-scroller').evaluate(
        (element, top) => {
          ;(element as unknown as { scrollTop: number }).scrollTop = top
        },
        (round % 2) * round * 2_000,
      )
      await sleep(1_000)
    }
    const trace = JSON.parse((await browser.stopTracing()).toString()) as { traceEvents: TraceEvent[] }
    const tasks = mainTasks(trace.traceEvents)
    const longest = tasks.at(-1) ?? 0
    return {
      tables: [
        {
          title: `Tasks of the page's main thread, ${nodes.toLocaleString('en-US')} nodes, ${migrationsPerSecond} migrations a second, CPU ms`,
          head: ['', 'p50', 'p99', 'longest', 'busy %'],
          rows: [
            [
              'dashboard',
              figure(quantile(tasks, 0.5)),
              figure(quantile(tasks, 0.99)),
              figure(longest),
              figure((100 * tasks.reduce((sum, one) => sum + one, 0)) / (rounds * 1_000)),
            ],
          ],
        },
      ],
      goals: [atMost('longest task between two frames', longest, 50, 'ms')],
      remarks: noRemarks(),
      data: { tasks: tasks.length, longest },
    }
  } finally {
    await browser.close()
    server.closeAllConnections()
    server.close()
  }
}

/** CPU milliseconds of each task of the page's main thread, the shortest first. */
function mainTasks(events: readonly TraceEvent[]): number[] {
  const threads = events
    .filter(({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain')
    .map(({ pid, tid }) => `${pid} ${tid}`)
  const byThread = Map.groupBy(
    events.filter(
      ({ name, ph }) => ph === 'X' && (name === 'RunTask' || name === 'ThreadControllerImpl::RunTask'),
    ),
    ({ pid, tid }) => `${pid} ${tid}`,
  )
  // Other pages of the browser have a main thread as well, and nothing to do.
  const busiest = threads
    .map((thread) => (byThread.get(thread) ?? []).map(({ tdur, dur }) => (tdur ?? dur ?? 0) / 1_000))
    .sort((a, b) => b.length - a.length)[0]
  return (busiest ?? []).sort((a, b) => a - b)
}

function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0
}

/** What an admin API with so many nodes would say, all of it changing. */
async function startSimulation(): Promise<Server> {
  const pages = readPages(`${root}dist/dashboard`)
  const ids = Array.from({ length: nodes }, (_, i) => `node-${String(i + 1).padStart(4, '0')}`)
  const streams = new Set<ServerResponse>()
  const startedAt = Date.now()
  const random = (most: number) => Math.floor(Math.random() * most)
  const answers: Record<string, () => unknown> = {
    nodes: () =>
      ids.map((id, i) => ({
        id,
        pool: `pool-${i % 4}`,
        weight: 1 + (i % 3),
        state: i % 50 === 7 ? 'draining' : 'active',
        health: 'healthy',
        sessions: sessionsPerNode + random(20),
        share: (1 + Math.random() * 0.1) / 250,
        fairShare: 1 / 250,
        messagesPerSecond: random(500),
        responseMs: 1,
        linkRttMs: Math.random(),
        maxSessions: null,
        host: `host-${i % 40}`,
        version: '1.0.0',
      })),
    gateways: () => [{ id: 'gw', state: 'active', internalUrl: '', startedAt, self: true }],
    operations: () => [],
    sessions: () => ({ sessions: [], next: null }),
    stats: () => [
      {
        at: Date.now(),
        connections: nodes * sessionsPerNode,
        messagesIn: random(10_000),
        messagesOut: random(10_000),
        moved: migrationsPerSecond,
        stayed: 0,
        pauseMs: { p50: Math.random(), p99: Math.random() * 10 },
        sessions: {},
        imbalance: { 'pool-0': Math.random() / 10 },
        lagMs: random(10),
        memoryBytes: 1e9,
        runs: { running: random(100), read: random(100) },
        slowConsumers: { close: 0, drop: 0, coalesce: 0 },
      },
    ],
  }
  const server = createServer((request, response) => {
    const path = (request.url ?? '/').split('?')[0]!
    const file = pages.get(path)
    const name = path.split('/').at(-1)!
    if (file !== undefined) response.writeHead(200, { 'content-type': file.type }).end(file.content)
    else if (name === 'events') {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
      streams.add(response)
      response.on('close', () => streams.delete(response))
    } else
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify(answers[name]?.() ?? {}))
  })
  const perTick = migrationsPerSecond / 20
  const timer = setInterval(() => {
    let text = ''
    for (let i = 0; i < perTick; i++) {
      const [from, to] = [ids[random(12)], ids[random(12)]]
      const event = {
        type: 'migration',
        at: Date.now(),
        session: 's',
        from,
        to,
        reason: 'rebalance',
        outcome: 'moved',
        pauseMs: 1,
        held: 0,
      }
      text += `data: ${JSON.stringify(event)}\n\n`
    }
    for (const stream of streams) stream.write(text)
  }, 50)
  server.on('close', () => clearInterval(timer))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}
