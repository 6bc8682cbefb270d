import type { Candidate } from '../../src/core/balance/candidate.ts'
import { Dispatcher } from '../../src/core/balance/dispatcher.ts'
import { planRebalance } from '../../src/core/balance/planner.ts'
import { type PolicyName, policies } from '../../src/core/balance/policies.ts'
import { type LoadedNode, planTraffic } from '../../src/core/balance/traffic-planner.ts'
import { median } from '../measure/statistics.ts'
import { atMost } from '../report/goals.ts'
import { noRemarks } from '../report/remarks.ts'
import { figure, type Table } from '../report/table.ts'
import type { Report, Scenario, Settings } from './scenario.ts'

const nodeCounts = [10, 100, 1_000, 10_000]
const planNodes = 1_000
const planSessions = 1_000_000
/** As many as a gateway plans for at once, where it is by traffic. */
const movesMax = 5_000
/** Of a policy's picks, in each repeat. */
const pickMs = 200

export const balance: Scenario = {
  name: 'balance',
  summary: 'what a pick of each policy and a plan of the rebalancer cost, in CPU',
  run,
}

async function run(settings: Settings): Promise<Report> {
  const repeats = settings.quick ? 1 : 5
  const picks = new Map<string, number[]>()
  for (const name of Object.keys(policies) as PolicyName[]) {
    settings.progress(name)
    picks.set(
      name,
      nodeCounts.map((count) => median(times(repeats, () => pickCost(name, count)))),
    )
  }
  settings.progress('single messages')
  const dispatch = median(times(repeats, () => dispatchCost(32)))
  settings.progress('plans')
  const plans = {
    'sessions: a tenth of the nodes is empty': times(repeats, planSessionsOnce),
    'traffic: the same': times(repeats, () => planTrafficOnce(false)),
    'traffic: 1 in 1,000 is hot, all on ten nodes': times(repeats, () => planTrafficOnce(true)),
  }
  const pickTable: Table = {
    title: 'One pick, CPU µs, by nodes of the pool',
    head: ['', ...nodeCounts.map((count) => count.toLocaleString('en-US'))],
    rows: [...picks].map(([name, costs]) => [name, ...costs.map(figure)]),
  }
  const planTable: Table = {
    title: `One plan for ${planNodes.toLocaleString('en-US')} nodes and ${planSessions.toLocaleString('en-US')} sessions`,
    head: ['', 'CPU ms', 'moves'],
    rows: Object.entries(plans).map(([name, runs]) => [
      name,
      figure(median(runs.map(({ ms }) => ms))),
      runs[0]!.moves.toLocaleString('en-US'),
    ]),
  }
  return {
    tables: [pickTable, planTable],
    goals: [
      ...Object.entries(plans).map(([name, runs]) =>
        atMost(`plan by ${name}`, median(runs.map(({ ms }) => ms)), 100, 'ms'),
      ),
      atMost('one message of affinity message, 32 nodes', dispatch, 5, 'µs'),
    ],
    remarks: noRemarks(),
    data: { nodeCounts, picks: Object.fromEntries(picks), dispatch, plans },
  }
}

/** Microseconds of CPU. */
function pickCost(name: PolicyName, count: number): number {
  const policy = policies[name]()
  const candidates = Array.from({ length: count }, (_, i) => candidateOf(`node-${i}`, 100 + (i % 7)))
  let key = 0
  const pick = () => {
    const node = policy.pick(candidates, { random: Math.random, key: `client-${key++}` })
    // As when a session comes and another one goes.
    node!.sessions++
    candidates[key % count]!.sessions = 100
  }
  return costOf(pick)
}

function dispatchCost(count: number): number {
  const dispatcher = new Dispatcher<Candidate & { inFlight: number }>()
  const nodes = Array.from({ length: count }, (_, i) => ({ ...candidateOf(`node-${i}`, 1), inFlight: i % 3 }))
  let at = 0
  return costOf(() => {
    dispatcher.pick(nodes, () => true)!.inFlight++
    nodes[at++ % count]!.inFlight = 0
  })
}

function costOf(once: () => void): number {
  for (let i = 0; i < 100; i++) once()
  const until = performance.now() + pickMs
  const before = process.cpuUsage()
  let count = 0
  while (performance.now() < until) {
    for (let i = 0; i < 20; i++) once()
    count += 20
  }
  const { user, system } = process.cpuUsage(before)
  return (user + system) / count
}

interface Plan {
  ms: number
  moves: number
}

function planSessionsOnce(): Plan {
  const each = planSessions / (planNodes * 0.9)
  const nodes = Array.from({ length: planNodes }, (_, i) =>
    candidateOf(`node-${i}`, i % 10 === 0 ? 0 : Math.round(each)),
  )
  return measured(() => planRebalance(nodes).total)
}

function planTrafficOnce(isHot: boolean): Plan {
  const nodes: LoadedNode<{ load: number }>[] = Array.from({ length: planNodes }, (_, i) => {
    const count = isHot
      ? planSessions / planNodes
      : i % 10 === 0
        ? 0
        : Math.round(planSessions / (planNodes * 0.9))
    const sessions = Array.from({ length: count }, (_, j) => {
      return { load: isHot && i < 10 && j < 100 ? 50 : 0.5 + Math.random() }
    })
    return {
      candidate: candidateOf(`node-${i}`, count),
      load: sessions.reduce((sum, { load }) => sum + load, 0),
      movable: () => sessions,
    }
  })
  return measured(() => planTraffic(nodes, { maxMoves: movesMax }).moves.length)
}

function measured(plan: () => number): Plan {
  const before = process.cpuUsage()
  const moves = plan()
  const { user, system } = process.cpuUsage(before)
  return { ms: (user + system) / 1000, moves }
}

function candidateOf(id: string, sessions: number): Candidate {
  return {
    id,
    weight: 1,
    sessions,
    pending: 0,
    maxSessions: null,
    healthy: true,
    active: true,
    warmth: 1,
    responseMs: 1 + (sessions % 5),
    bytesPerSecond: sessions * 100,
    unmeasured: 0,
  }
}

function times<T>(count: number, make: () => T): T[] {
  return Array.from({ length: count }, make)
}
