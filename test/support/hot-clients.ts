import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { WebSocket } from 'ws'
import type { TestGateway } from './in-process.ts'
import { startTestGateway, startTestNode } from './in-process.ts'
import { Migrations } from './migrations.ts'
import { createRandom } from './random.ts'

export interface HotClientsOptions {
  seed: number
  /** Of the gateway. */
  intervalMs: number
  /** Until the messages are counted, after the ten became hot. */
  settleMs: number
  /** For which they are counted. */
  countMs: number
  messagesPerSecond: number
  /** A second gateway at the same nodes has half of the clients. */
  gateways?: TestGateway[]
}

export interface HotClientsReport {
  /** Of the messages that were handled while they were counted, per node. */
  parts: number[]
  /** Moves until the count, and while it went on. */
  moves: number
  movesLater: number
}

const [clients, hot, hotShare] = [400, 10, 0.8]
const nodeIds = ['a', 'b', 'c', 'd']

/** Ten hot clients that all sit on one of four nodes: 10 of 400 sessions, 80 % of the traffic, affinity `session`, load `traffic`. */
export async function runHotClients(options: HotClientsOptions): Promise<HotClientsReport> {
  const { seed, intervalMs, settleMs, countMs, messagesPerSecond } = options
  const random = createRandom(seed)
  const rebalance = { enabled: true, intervalMs, tolerance: 0.03, load: 'traffic' as const }
  const gateways = options.gateways ?? [await startTestGateway({ rebalance })]
  const handled = new Map<string, number>(nodeIds.map((id) => [id, 0]))
  const places = new Map<string, string>()
  for (const id of nodeIds) {
    await startTestNode(
      gateways[0]!,
      {
        open: (session) => void places.set(session.id, id),
        message(session, data) {
          handled.set(id, handled.get(id)! + 1)
          session.send(data === 'who' ? session.id : data)
        },
      },
      { id, gateways: gateways.map(({ linkUrl }) => linkUrl) },
    )
  }
  const sockets: WebSocket[] = []
  const atA: WebSocket[] = []
  for (let i = 0; i < clients; i++) {
    const ws = new WebSocket(gateways[i % gateways.length]!.wsUrl)
    onTestFinished(() => ws.terminate())
    sockets.push(ws)
    await once(ws, 'open')
    ws.send('who')
    const [id] = await once(ws, 'message')
    if (places.get(String(id)) === 'a') atA.push(ws)
  }
  const chosen = new Set(random.sample(atA, hot))
  // Some cold ones talk sixteen times as much as others.
  const weights = sockets.map((ws) => (chosen.has(ws) ? 0 : 2 ** (4 * random.next())))
  const all = weights.reduce((sum, weight) => sum + weight, 0)
  const timers = sockets.map((ws, i) => {
    const rate = chosen.has(ws)
      ? (hotShare * messagesPerSecond) / hot
      : ((1 - hotShare) * messagesPerSecond * weights[i]!) / all
    return talk(ws, 1000 / rate, random.next())
  })
  onTestFinished(() => {
    for (const stop of timers) stop()
  })
  const migrations = gateways.map((gateway) => new Migrations(gateway))
  const moves = () => migrations.reduce((sum, { ended }) => sum + ended.length, 0)
  await delay(settleMs)
  const before = new Map(handled)
  const movesBefore = moves()
  await delay(countMs)
  const counts = nodeIds.map((id) => handled.get(id)! - before.get(id)!)
  const total = counts.reduce((sum, count) => sum + count, 0)
  return {
    parts: counts.map((count) => count / total),
    moves: movesBefore,
    movesLater: moves() - movesBefore,
  }
}

/** Sends every `everyMs` from a random moment on; returns what stops it. Late timers are made up for. */
function talk(ws: WebSocket, everyMs: number, phase: number): () => void {
  const begun = performance.now() - phase * everyMs
  let sent = 0
  let timer: NodeJS.Timeout
  const next = () => {
    const due = Math.floor((performance.now() - begun) / everyMs)
    for (; sent < due; sent++) ws.send('x')
    timer = setTimeout(next, Math.max(1, begun + (sent + 1) * everyMs - performance.now()))
  }
  next()
  return () => clearTimeout(timer)
}
