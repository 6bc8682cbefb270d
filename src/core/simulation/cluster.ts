import { type Candidate, warmthAt } from '../balance/candidate.ts'
import { Hysteresis, restMs } from '../balance/hysteresis.ts'
import { imbalance, planRebalance } from '../balance/planner.ts'
import { type Policy, type PolicyName, placesByKey, policies } from '../balance/policies.ts'
import { planTraffic } from '../balance/traffic-planner.ts'

/** How a cluster balances, by the same code that gateways run. */
export interface Balancing {
  readonly policy: PolicyName
  /** What live sessions are moved for. `off`: as behind a reverse proxy, a session stays where it came. */
  readonly rebalance: 'off' | 'sessions' | 'traffic'
  /** Seconds between rounds. */
  readonly intervalS: number
  /** Most moves a second. */
  readonly budget: number
  readonly slowStartS: number
}

/** A simulated node: the candidate of policies and planners, and what it can do. */
interface Node extends Candidate {
  /** Messages a second that it can handle. */
  readonly capacity: number
  readonly joinedAt: number
  /** In the list of nodes. */
  readonly index: number
  /** Of all its sessions, in messages a second. */
  traffic: number
  /** Numbers of its sessions. */
  readonly members: number[]
}

export interface NodeOptions {
  readonly id: string
  readonly weight: number
  readonly capacity: number
}

/** What one second was like. */
export interface Second {
  /** The largest relative distance of a node from its fair share of the sessions. */
  readonly imbalance: number
  /** The same of the messages. */
  readonly trafficImbalance: number
  readonly moves: number
  /** Sessions whose node went away under them, in this second. */
  readonly broken: number
  /** Mean time in a node's queue and handler, weighted by messages, and that of the slowest hundredth; milliseconds. */
  readonly latencyMs: number
  readonly latencyP99Ms: number
}

const never = -1
/** A node that is overloaded answers that late. */
const saturatedMs = 10_000
const trafficTolerance = 0.15
/** As gateways do it where they balance by traffic: how often they look, and for how long a session that moved is left alone. */
const lookS = 5
const restS = restMs / 1000

/** Nodes and sessions in steps of a second; nothing but the production policies and planners decides anything. */
export class SimulatedCluster {
  readonly balancing: Balancing
  private readonly random: () => number
  private readonly policy: Policy
  private readonly nodes: Node[] = []
  private readonly byId = new Map<string, Node>()
  /** By session. */
  private place: Int32Array
  private position: Int32Array
  private rate: Float64Array
  private readonly movedAt: Float64Array
  private readonly hysteresis = new Hysteresis<object>(trafficTolerance)
  private readonly free: number[] = []
  private used = 0
  private now = 0
  private broken = 0
  private readonly queue: { session: number; to: Node }[] = []

  /** `random` gives 0 ≤ r < 1; `capacity` is the most sessions at once. */
  constructor(balancing: Balancing, capacity: number, random: () => number) {
    this.balancing = balancing
    this.random = random
    this.policy = policies[balancing.policy]()
    this.place = new Int32Array(capacity).fill(never)
    this.position = new Int32Array(capacity)
    this.rate = new Float64Array(capacity)
    this.movedAt = new Float64Array(capacity).fill(Number.NEGATIVE_INFINITY)
  }

  get nodeIds(): string[] {
    return this.nodes.filter(({ active }) => active).map(({ id }) => id)
  }

  join({ id, weight, capacity }: NodeOptions): void {
    const node: Node = {
      id,
      weight,
      capacity,
      joinedAt: this.now,
      index: this.nodes.length,
      sessions: 0,
      pending: 0,
      maxSessions: null,
      healthy: true,
      active: true,
      traffic: 0,
      members: [],
      responseMs: 1000 / capacity,
      bytesPerSecond: 0,
      unmeasured: 0,
    }
    this.nodes.push(node)
    this.byId.set(id, node)
  }

  /** With rebalancing it drains; without, its clients lose their connections and come back as new ones. */
  leave(id: string): void {
    const node = this.byId.get(id)
    if (node === undefined) return
    node.active = false
    for (const session of [...node.members]) {
      if (this.balancing.rebalance === 'off') this.broken++
      this.detach(session)
      this.assign(session)
    }
  }

  /** A session with so many messages a second; returns its number. */
  open(rate: number): number {
    const session = this.free.pop() ?? this.used++
    this.rate[session] = rate
    this.assign(session)
    return session
  }

  close(session: number): void {
    if (this.place[session] !== never) this.detach(session)
    this.movedAt[session] = Number.NEGATIVE_INFINITY
    this.free.push(session)
  }

  setRate(session: number, rate: number): void {
    const node = this.nodes[this.place[session]!]
    if (node !== undefined) node.traffic += rate - this.rate[session]!
    this.rate[session] = rate
  }

  /** Sessions of one node, for scenarios that make some of them hot. */
  membersOf(id: string): readonly number[] {
    return this.byId.get(id)?.members ?? []
  }

  /** Lets a second pass. */
  step(): Second {
    this.now++
    const live = this.nodes.filter(({ active }) => active)
    for (const node of live) {
      node.warmth = warmthAt(this.now - node.joinedAt, this.balancing.slowStartS)
      node.responseMs = latencyOf(node)
      node.bytesPerSecond = node.traffic
      node.unmeasured = 0
    }
    const everyS =
      this.balancing.rebalance === 'traffic'
        ? Math.min(lookS, this.balancing.intervalS)
        : this.balancing.intervalS
    if (this.now % everyS === 0) this.plan(live)
    const moves = this.carryOut()
    const second = { ...this.measure(live), moves, broken: this.broken }
    this.broken = 0
    return second
  }

  private plan(live: Node[]): void {
    const { rebalance, policy } = this.balancing
    if (rebalance === 'off' || placesByKey(policy)) return
    // What is under way is not planned again.
    if (rebalance === 'traffic' && this.queue.length > 0) return
    this.queue.length = 0
    if (rebalance === 'traffic') this.planByTraffic(live)
    else this.planBySessions(live)
  }

  private planBySessions(live: Node[]): void {
    const taken = new Map<string, number>()
    for (const { from, to, count } of planRebalance(live).moves) {
      const { members } = this.byId.get(from)!
      const target = this.byId.get(to)!
      const already = taken.get(from) ?? 0
      taken.set(from, already + count)
      for (let i = already; i < already + count; i++)
        this.queue.push({ session: members[members.length - 1 - i]!, to: target })
    }
  }

  private planByTraffic(live: Node[]): void {
    const loaded = live.map((node) => ({
      candidate: node,
      load: node.traffic,
      movable: () =>
        node.members
          .filter((session) => this.now - this.movedAt[session]! >= restS)
          .map((session) => ({ session, load: this.rate[session]! })),
    }))
    const maxMoves = this.balancing.budget * this.balancing.intervalS
    if (!this.hysteresis.look(planTraffic(loaded, { maxMoves: 0 }).imbalanceBefore)) return
    const { moves } = planTraffic(loaded, { tolerance: this.hysteresis.target, maxMoves })
    this.hysteresis.settle()
    for (const { session, to } of moves) this.queue.push({ session: session.session, to: this.byId.get(to)! })
  }

  private carryOut(): number {
    const moves = this.queue.splice(0, this.balancing.budget)
    let moved = 0
    for (const { session, to } of moves) {
      if (this.place[session] === never || !to.active) continue
      this.detach(session)
      this.attach(session, to)
      this.movedAt[session] = this.now
      moved++
    }
    return moved
  }

  private assign(session: number): void {
    const node = this.policy.pick(this.nodes, { random: this.random, key: `s${session}` }) as Node | null
    if (node === null) return
    this.attach(session, node)
    node.unmeasured!++
  }

  private attach(session: number, node: Node): void {
    this.place[session] = node.index
    this.position[session] = node.members.length
    node.members.push(session)
    node.sessions++
    node.traffic += this.rate[session]!
  }

  private detach(session: number): void {
    const node = this.nodes[this.place[session]!]!
    const last = node.members.pop()!
    if (last !== session) {
      const hole = this.position[session]!
      node.members[hole] = last
      this.position[last] = hole
    }
    this.place[session] = never
    node.sessions--
    node.traffic -= this.rate[session]!
  }

  private measure(live: Node[]): Omit<Second, 'moves' | 'broken'> {
    const traffic = live.reduce((sum, node) => sum + node.traffic, 0)
    const weight = live.reduce((sum, node) => sum + node.weight, 0)
    let trafficImbalance = 0
    let latency = 0
    for (const node of live) {
      const fair = (traffic * node.weight) / weight
      if (fair > 0) trafficImbalance = Math.max(trafficImbalance, Math.abs(node.traffic - fair) / fair)
      if (traffic > 0) latency += (latencyOf(node) * node.traffic) / traffic
    }
    return {
      imbalance: imbalance(live),
      trafficImbalance,
      latencyMs: latency,
      latencyP99Ms: slowestHundredth(live, traffic),
    }
  }
}

/** Time in the system of a queue with one server (M/M/1). */
function latencyOf({ traffic, capacity }: Node): number {
  return traffic >= capacity ? saturatedMs : Math.min(saturatedMs, 1000 / (capacity - traffic))
}

/** What the hundredth of the messages that waits longest waits for at least: 4.6 means, in an exponential distribution, at the worst nodes. */
function slowestHundredth(live: readonly Node[], traffic: number): number {
  const waiting = live.map((node) => ({ mean: latencyOf(node), part: node.traffic / traffic }))
  let low = 0
  let high = saturatedMs * 10
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2
    const later = waiting.reduce((sum, { mean, part }) => sum + part * Math.exp(-middle / mean), 0)
    if (later > 0.01) low = middle
    else high = middle
  }
  return Math.min(high, saturatedMs)
}
