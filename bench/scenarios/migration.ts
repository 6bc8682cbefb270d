import { setTimeout as sleep } from 'node:timers/promises'
import { Load } from '../load/handle.ts'
import { median } from '../measure/statistics.ts'
import { type EvenkeelPeer, type Operation, startEvenkeel } from '../peers/evenkeel.ts'
import { assertAlive } from '../peers/peer.ts'
import { atLeast, atMost } from '../report/goals.ts'
import { noRemarks, type Remarks } from '../report/remarks.ts'
import { figure, type Table } from '../report/table.ts'
import {
  checkLoad,
  checkOpened,
  payloadBytes,
  type Report,
  type Scenario,
  type Settings,
} from './scenario.ts'

const sessions = 5_000
const messagesPerSecond = 2_000
const drainTimeoutMs = 30_000
/** One node takes all new sessions, and the rebalancer sees nothing to mend: its weight is everything. */
const heavy = { id: 'A', weight: 100_000, state: true }
const light = { id: 'B', weight: 1, state: true }

interface Drain {
  from: string
  moved: number
  failed: number
  movesPerSecond: number
  pauseP50: number
  pauseP99: number
  /** As the clients saw it, over the drain and half a second on each side. */
  latencyP50: number
  latencyP99: number
  latencyMax: number
}

export const migration: Scenario = {
  name: 'migration',
  summary: `drain ${sessions.toLocaleString('en-US')} live sessions from one node to another while messages flow`,
  run,
}

async function run(settings: Settings): Promise<Report> {
  const remarks = noRemarks()
  const peer = await startEvenkeel([heavy, light])
  const load = await Load.start()
  const { port, path } = peer
  checkOpened(
    'evenkeel',
    await load.call('open', { port, path, connections: sessions, payloadBytes }),
    remarks,
  )
  // Every session needs its first message: it sets the state.
  settings.progress('first messages')
  await load.call('closedLoop', { outstanding: 1, warmMs: 0, windowMs: 1_000, watch: {} })
  const drains: Drain[] = []
  for (let round = 0; round < (settings.quick ? 1 : 4); round++) {
    settings.progress(`drain ${round + 1}`)
    const [from, to] = round % 2 === 0 ? [heavy.id, light.id] : [light.id, heavy.id]
    drains.push(await drainOnce(peer, load, from, to, remarks))
  }
  return reportOf(drains, remarks)
}

async function drainOnce(
  peer: EvenkeelPeer,
  load: Load,
  from: string,
  to: string,
  remarks: Remarks,
): Promise<Drain> {
  await load.call('startOpenLoop', { rate: messagesPerSecond })
  await sleep(500)
  // Just before, or the rebalancer would start to fill the node that came back.
  await peer.admin.activate(to)
  const operation = await finished(peer, await peer.admin.drain(from))
  await sleep(500)
  const traffic = await load.call('stopOpenLoop', null)
  assertAlive(peer)
  checkLoad(`drain of ${from}`, traffic, remarks)
  if (operation.state !== 'done') remarks.failures.push(`drain of ${from} ended as ${operation.state}`)
  const seconds = Math.max(1, (operation.endedAt ?? Number.NaN) - operation.startedAt) / 1000
  return {
    from,
    moved: operation.moved,
    failed: operation.failed,
    movesPerSecond: operation.moved / seconds,
    pauseP50: operation.pauseMs?.p50 ?? Number.NaN,
    pauseP99: operation.pauseMs?.p99 ?? Number.NaN,
    latencyP50: traffic.latencyUs.p50,
    latencyP99: traffic.latencyUs.p99,
    latencyMax: traffic.latencyUs.max,
  }
}

async function finished(peer: EvenkeelPeer, started: Operation): Promise<Operation> {
  const deadline = performance.now() + drainTimeoutMs
  let operation = started
  while (operation.state === 'running' && performance.now() < deadline) {
    await sleep(50)
    operation = await peer.admin.operation(started.id)
  }
  return operation
}

function reportOf(drains: readonly Drain[], remarks: Remarks): Report {
  const middle = (key: Exclude<keyof Drain, 'from'>) => median(drains.map((drain) => drain[key]))
  const keys = [
    'moved',
    'failed',
    'movesPerSecond',
    'pauseP50',
    'pauseP99',
    'latencyP50',
    'latencyP99',
    'latencyMax',
  ] as const
  const rows = drains.map((drain, i) => [
    `${i + 1}, of ${drain.from}`,
    ...keys.map((key) => figure(drain[key])),
  ])
  const head = [
    'drain',
    'moved',
    'failed',
    'moves/s',
    'pause p50 ms',
    'p99 ms',
    'echo p50 µs',
    'p99 µs',
    'max µs',
  ]
  const title = `${sessions.toLocaleString('en-US')} sessions with 200 B of state, ${messagesPerSecond} messages per second`
  const table: Table = { title, head, rows }
  return {
    tables: [table],
    goals: [
      atLeast('sessions moved by each drain', Math.min(...drains.map(({ moved }) => moved)), sessions, ''),
      atLeast('moves per second', middle('movesPerSecond'), 20_000, ''),
      atMost('pause p50', middle('pauseP50'), 1, 'ms'),
      atMost('pause p99', middle('pauseP99'), 10, 'ms'),
    ],
    remarks,
    data: drains,
  }
}
