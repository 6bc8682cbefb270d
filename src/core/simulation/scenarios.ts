import { seededRandom } from '../seeded-random.ts'
import { type Balancing, type Second, SimulatedCluster } from './cluster.ts'

export interface Size {
  readonly nodes: number
  readonly sessions: number
}

export interface Scenario {
  readonly name: string
  readonly summary: string
  /** Called each second before it passes, from 1; the event comes at `eventAtS`. */
  act(cluster: SimulatedCluster, second: number, world: World): void
  /** What a node of the start can do, as a part of what its weight says. Absent: all of it. */
  capacityPart?(index: number): number
}

/** What scenarios work with besides the cluster. */
export interface World {
  readonly size: Size
  /** Open sessions by number, in no order that means anything. */
  readonly open: number[]
  random(): number
  /** One more session of the usual rate. */
  arrive(): void
  node(index: number, capacityPart?: number): { id: string; weight: number; capacity: number }
}

export const eventAtS = 30
/** Messages a second of a session that is not hot. */
const usualRate = 1
/** At the usual rates nodes are so busy. */
const utilization = 0.6
/** Of the sessions, each second: clients leave and others come. */
const churnPerSecond = 0.001

export const scenarios: readonly Scenario[] = [
  {
    name: 'join',
    summary: 'a quarter more nodes come at once',
    act(cluster, second, { size, node }) {
      if (second !== eventAtS) return
      const more = Math.max(1, Math.round(size.nodes / 4))
      for (let i = 0; i < more; i++) cluster.join(node(size.nodes + i))
    },
  },
  {
    name: 'leave',
    summary: 'a tenth of the nodes leaves at once',
    act(cluster, second, { size }) {
      if (second !== eventAtS) return
      const fewer = Math.max(1, Math.round(size.nodes / 10))
      for (const id of cluster.nodeIds.slice(0, fewer)) cluster.leave(id)
    },
  },
  {
    name: 'burst',
    summary:
      'within ten seconds half as many clients come again, to a cluster that has just grown by a tenth',
    act(cluster, second, { size, node, arrive }) {
      if (second === eventAtS)
        for (let i = 0; i < Math.max(1, Math.round(size.nodes / 10)); i++) cluster.join(node(size.nodes + i))
      if (second < eventAtS || second >= eventAtS + 10) return
      for (let i = 0; i < size.sessions / 20; i++) arrive()
    },
  },
  {
    name: 'hot',
    summary: 'a tenth of the sessions of one node in twenty becomes thirty times as busy',
    act(cluster, second, { size }) {
      if (second !== eventAtS) return
      const nodes = Math.max(1, Math.round(size.nodes / 20))
      for (const id of cluster.nodeIds.slice(0, nodes)) {
        const members = cluster.membersOf(id)
        for (const session of members.slice(0, Math.ceil(members.length / 10)))
          cluster.setRate(session, 30 * usualRate)
      }
    },
  },
  {
    name: 'slow',
    summary: 'one node in ten can do half of what its weight says',
    act() {},
    capacityPart: (index) => (index % 10 === 0 ? 0.5 : 1),
  },
]

export interface RunOptions {
  readonly scenario: Scenario
  readonly balancing: Balancing
  readonly size: Size
  readonly seconds: number
  readonly seed: number
  progress?(second: number): void
}

/** The same seed gives the same run. */
export function simulate(options: RunOptions): Second[] {
  const { scenario, balancing, size, seconds, seed } = options
  const random = seededRandom(seed)
  const cluster = new SimulatedCluster(balancing, size.sessions * 3, random)
  const open: number[] = []
  const world: World = {
    size,
    open,
    random,
    arrive() {
      open.push(cluster.open(usualRate))
    },
    node(index, capacityPart = 1) {
      const capacity = ((size.sessions / size.nodes) * usualRate * capacityPart) / utilization
      return { id: `node-${index}`, weight: 1, capacity }
    },
  }
  for (let i = 0; i < size.nodes; i++) cluster.join(world.node(i, scenario.capacityPart?.(i)))
  for (let i = 0; i < size.sessions; i++) world.arrive()
  const result: Second[] = []
  for (let second = 1; second <= seconds; second++) {
    churn(cluster, world)
    scenario.act(cluster, second, world)
    result.push(cluster.step())
    options.progress?.(second)
  }
  return result
}

function churn(cluster: SimulatedCluster, { open, random, arrive }: World): void {
  const leaving = Math.round(open.length * churnPerSecond)
  for (let i = 0; i < leaving; i++) {
    const at = Math.floor(random() * open.length)
    const session = open[at]!
    open[at] = open.at(-1)!
    open.pop()
    cluster.close(session)
  }
  for (let i = 0; i < leaving; i++) arrive()
}

export interface Summary {
  /** After the event, at its worst and at the end. */
  readonly worstImbalance: number
  readonly finalImbalance: number
  readonly finalTrafficImbalance: number
  readonly moves: number
  readonly broken: number
  /** Seconds from the event until no node is farther than the tolerance from its share; null: never. */
  readonly evenAfterS: number | null
  readonly finalLatencyMs: number
  readonly finalLatencyP99Ms: number
}

export function summarize(
  run: readonly Second[],
  evenBelow: number,
  by: 'imbalance' | 'trafficImbalance',
): Summary {
  const after = run.slice(eventAtS - 1)
  const last = run.at(-1)!
  const lastUneven = after.findLastIndex((second) => second[by] > evenBelow)
  return {
    worstImbalance: Math.max(...after.map((second) => second[by])),
    finalImbalance: last.imbalance,
    finalTrafficImbalance: last.trafficImbalance,
    moves: run.reduce((sum, { moves }) => sum + moves, 0),
    broken: run.reduce((sum, { broken }) => sum + broken, 0),
    evenAfterS: lastUneven === after.length - 1 ? null : lastUneven + 1,
    finalLatencyMs: last.latencyMs,
    finalLatencyP99Ms: last.latencyP99Ms,
  }
}
