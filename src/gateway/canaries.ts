import {
  type Canary,
  type CanaryState,
  canaryLimits,
  closestId,
  isDrawn,
  isLater,
  isNewer,
  parseCanary,
  rules,
  type Sides,
  sidesOf,
} from '../core/balance/canary.ts'
import { participates } from '../core/balance/candidate.ts'
import { isFailureCode, judge } from '../core/health/canary-verdict.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { CanaryOperator, CanaryOrder, CanaryStarted, CanaryView } from './canary-operator.ts'
import { checkOrder, checkPercent, percentOf } from './canary-order.ts'
import { parseCanaryWord, writeCanaryWord } from './canary-word.ts'
import type { Gateway } from './gateway.ts'
import type { MoveResult } from './migrator.ts'
import type { NodeEntry } from './node-entry.ts'
import type { OperationRecord } from './operations.ts'
import { randomText } from './random-text.ts'
import type { Session } from './session.ts'
import { otherGateways, sessionsAt, TrackedCanary } from './tracked-canary.ts'

/** No channel of users can have this name. */
const topic = '$canaries'
/** Canaries that operators can look at; those that are over go first. */
const keptCanaries = 64
/** How often it is looked how canaries go; a failing one is left so soon. */
const tickMs = 250
/** Other gateways hear this often how it goes, and at once of what they wait for. */
const tellMs = 1_000
/** Of a session's id. */
const idBytes = 16
/** Ids are drawn until one belongs to the side of the node that its client returns to. */
const idsMost = 20_000

/**
 * Canaries of live sessions: a share of a pool's sessions lives at nodes of one version, which is watched and, when it fails, left again. The
 * canary itself is kept by the version's nodes, as weights and drains are, so gateways agree without a store and those that start again
 * learn it. Each gateway moves and watches its own sessions, and tells the others; one of them judges.
 */
export class Canaries implements CanaryOperator {
  private readonly gateway: Gateway
  private readonly tracked = new Map<string, TrackedCanary>()
  /** The one of each pool that says where sessions belong. */
  private readonly ruling = new Map<string, TrackedCanary>()
  private timer: NodeJS.Timeout | null = null

  constructor(gateway: Gateway) {
    this.gateway = gateway
    gateway.placement.canaryOf = (pool) => this.of(pool)
  }

  begin(): void {
    const { bus } = this.gateway.cluster
    // It rejects only when the bus is closed.
    bus.subscribe(topic, (payload) => this.receive(payload)).catch(() => {})
    this.timer = setInterval(() => this.tick(), tickMs)
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer)
    for (const { moves } of this.tracked.values()) moves.cancel()
  }

  /** The canary that says where sessions of the pool belong. */
  of(pool: string): Canary | null {
    return this.ruling.get(pool)?.canary ?? null
  }

  /** An id for a session whose client is to go to `chosen`: one that the canary leaves there. */
  sessionId(chosen: NodeEntry | null): string {
    const canary = chosen === null ? null : this.of(chosen.pool)
    let id = randomText(idBytes)
    if (canary === null || chosen === null) return id
    const isCanary = chosen.version === canary.version
    for (let i = 1; i < idsMost && isDrawn(canary, id) !== isCanary; i++) id = randomText(idBytes)
    return id
  }

  /** Whether a session of this id may be at the node. */
  fits(session: Session, node: NodeEntry): boolean {
    const canary = this.of(session.pool)
    return canary === null || isDrawn(canary, session.id) === (node.version === canary.version)
  }

  // For operators.

  start(order: CanaryOrder): CanaryStarted {
    this.assertPlans()
    const { pool, version, percent, ...watch } = checkOrder(order)
    const { canary: next, others } = this.checkPool(pool, version)
    const now = Date.now()
    const share = percent / 100
    const here = [...next, ...others].flatMap(({ assigned }) => [...assigned].map(({ id }) => id))
    const id = closestId(here, share, () => `can_${randomText(9)}`)
    const times = { revision: now, startedAt: now, watchFrom: now, changedAt: now }
    const first = { state: 'watching' as const, gateway: this.gateway.id, reason: '' }
    const one = this.adopt({ id, pool, version, share, ...first, ...times, ...watch })!
    this.spread(one)
    return started(one, one.begin(Math.round(one.poolSessions * share)))
  }

  return(id: string): CanaryStarted {
    this.assertPlans()
    const one = this.find(id)
    const { state } = one.canary
    if (state !== 'watching' && state !== 'passed' && state !== 'returning')
      throw new EvenkeelError('CONFLICT', `canary ${id} is ${state}: there is nothing to return`)
    if (state !== 'returning') this.change(one, { state: 'returning', reason: 'an operator wants it' })
    return started(one, one.begin(one.sessions))
  }

  promote(id: string, percent?: number): CanaryStarted {
    this.assertPlans()
    const one = this.find(id)
    const { state } = one.canary
    if (state !== 'watching' && state !== 'passed')
      throw new EvenkeelError('CONFLICT', `canary ${id} is ${state}: start another one`)
    return percent === undefined ? this.promoteWholly(one) : this.raise(one, percent)
  }

  private raise(one: TrackedCanary, percent: number): CanaryStarted {
    checkPercent(percent)
    const { id, share } = one.canary
    if (percent / 100 <= share) {
      throw new EvenkeelError(
        'BAD_REQUEST',
        `percent must be above the ${percentOf(one.canary)} % that canary ${id} has; to give it less, return it`,
      )
    }
    const change = { share: percent / 100, state: 'watching' as const, watchFrom: Date.now() }
    this.change(one, { ...change, reason: 'promoted by an operator' })
    return started(one, one.begin(Math.round(one.poolSessions * (percent / 100 - share))))
  }

  /** From then on no canary rules the pool; nodes of other versions are drained, so new and moved sessions can only come to the version. */
  private promoteWholly(one: TrackedCanary): CanaryStarted {
    const { version, pool } = one.canary
    const { canary: next, others } = one.sides
    const room = next
      .filter(participates)
      .reduce((sum, { maxSessions }) => sum + (maxSessions ?? Number.POSITIVE_INFINITY), 0)
    if (room < one.poolSessions) {
      throw new EvenkeelError(
        'CONFLICT',
        `active nodes of version ${version} take ${room} sessions, pool ${pool} has ${one.poolSessions}: start more of them`,
      )
    }
    const left = () => sessionsAt(others.filter(({ health }) => health !== 'down'))
    const before = left()
    this.change(one, { state: 'promoted', reason: 'promoted by an operator' })
    const operation = one.begin(before, () => before - left())
    for (const node of others) this.gateway.steering.drain(node)
    return started(one, operation)
  }

  list(): CanaryView[] {
    const views = [...this.tracked.values()].map((one) => one.view())
    return views.toSorted((a, b) => b.startedAt - a.startedAt)
  }

  get(id: string): CanaryView {
    return this.find(id).view()
  }

  // For the gateway.

  /** What the node keeps of the canary of its version; undefined: nothing. */
  reported(node: NodeEntry, text: string | undefined): void {
    const kept = text === undefined ? null : parseCanary(text)
    if (kept !== null && kept.pool === node.pool && kept.version === node.version) this.adopt(kept)
    const own = this.latestOf(node)
    if (own === null || own.steered.get(node) === own.canary.revision) return
    const isOld = kept === null || kept.id !== own.canary.id || kept.revision < own.canary.revision
    if (isOld) this.steer(own, node)
  }

  /** Nodes came, went or changed. */
  nodesChanged(): void {
    for (const one of this.ruling.values()) one.dirty = true
  }

  /** A node went without a word: a version whose nodes do that fails. */
  nodeLost(node: NodeEntry, reason: string): void {
    const one = this.ruling.get(node.pool)
    if (one === undefined) return
    one.dirty = true
    if (one.canary.state === 'watching' && node.version === one.canary.version && !this.gateway.stopping)
      this.fail(one, `node ${node.id} went down: ${reason}`)
  }

  closedByNode(node: NodeEntry, code: number): void {
    if (isFailureCode(code)) this.ruling.get(node.pool)?.watch.failed(node)
  }

  moveEnded({ from, to, outcome }: MoveResult): void {
    const one = this.ruling.get(to.pool)
    if (outcome === 'prepare-timeout') one?.watch.failed(to)
    if (outcome === 'quiesce-timeout') one?.watch.failed(from)
  }

  // Inside.

  private tick(): void {
    const now = this.gateway.now()
    for (const one of this.tracked.values()) {
      one.follow(now)
      if (this.ruling.get(one.canary.pool) !== one) continue
      one.look(now)
      if (this.isJudge(one.canary)) this.judge(one)
      // Who was asked waits for all to have nothing left.
      const isNews = one.untold && one.moves.progress.left === 0
      if (one.moves.progress.left > 0) one.untold = true
      if (isNews || now - one.toldAt >= tellMs) this.tell(one)
    }
  }

  private judge(one: TrackedCanary): void {
    const { canary, seen } = one
    if (canary.state === 'returning' && one.sessions === 0 && one.isSettled)
      this.change(one, { state: 'returned', reason: canary.reason })
    if (canary.state !== 'watching') return
    const { kind, reason } = judge(seen.canary, seen.others, Date.now() - canary.watchFrom, canary)
    if (kind === 'fail') this.fail(one, reason)
    else if (kind === 'pass') this.change(one, { state: 'passed', reason })
  }

  private fail(one: TrackedCanary, reason: string): void {
    this.change(one, { state: 'returning', reason })
    one.begin(one.sessions)
  }

  private change(one: TrackedCanary, change: Partial<Canary> & { state: CanaryState; reason: string }): void {
    const now = Date.now()
    const reason = change.reason.slice(0, canaryLimits.reasonCharacters)
    const revision = Math.max(now, one.canary.revision + 1)
    this.set(one, { ...one.canary, ...change, reason, revision, changedAt: now })
    this.spread(one)
  }

  /** Takes over what another gateway has made, or made of it. Returns null when what is here is as new. */
  private adopt(canary: Canary): TrackedCanary | null {
    let one = this.tracked.get(canary.id)
    if (one !== undefined && !isNewer(canary, one.canary)) return null
    if (one === undefined) {
      one = new TrackedCanary(canary, this.gateway)
      this.tracked.set(canary.id, one)
      this.forget()
    }
    this.set(one, canary)
    return one
  }

  private set(one: TrackedCanary, canary: Canary): void {
    const before = one.canary
    const ruling = this.ruling.get(canary.pool)
    const isBeaten = ruling !== undefined && ruling !== one && isLater(ruling.canary, canary)
    one.set(rules(canary) && isBeaten ? endedBy(canary, ruling) : canary)
    if (rules(one.canary)) {
      this.ruling.set(canary.pool, one)
      if (ruling !== undefined && ruling !== one) {
        ruling.set(endedBy(ruling.canary, one))
        ruling.cancel()
        this.publish(ruling)
      }
      one.scan(this.gateway.now())
    } else if (ruling === one) {
      this.ruling.delete(canary.pool)
      one.cancel()
    }
    if (before === canary || before.state !== one.canary.state || before.share !== canary.share)
      this.publish(one)
    this.gateway.rebalancer.soon()
  }

  private forget(): void {
    for (const [id, { canary }] of this.tracked) {
      if (this.tracked.size <= keptCanaries) return
      if (!rules(canary)) this.tracked.delete(id)
    }
  }

  private publish({ canary }: TrackedCanary): void {
    const { id, pool, version, state, reason } = canary
    this.gateway.publish({
      type: 'canary',
      canary: id,
      pool,
      version,
      percent: percentOf(canary),
      state,
      reason,
    })
  }

  /** Lets the version's nodes and the other gateways know. */
  private spread(one: TrackedCanary): void {
    for (const node of one.sides.canary) this.steer(one, node)
    this.tell(one)
  }

  private steer({ canary, steered }: TrackedCanary, node: NodeEntry): void {
    if (node.health === 'down') return
    steered.set(node, canary.revision)
    node.steer({ canary: JSON.stringify(canary) })
  }

  private tell(one: TrackedCanary): void {
    const { gateway } = this
    const { canary, moves, watch } = one
    one.toldAt = gateway.now()
    one.untold = moves.progress.left > 0
    if (otherGateways(gateway).length === 0) return
    const word = { gateway: gateway.id, canary, progress: moves.progress, seen: watch.seen }
    // While Redis is away each gateway goes by what it sees itself.
    gateway.cluster.bus.publish(topic, writeCanaryWord(word), true).catch(() => {})
  }

  private receive(payload: Buffer): void {
    const word = parseCanaryWord(payload)
    // Junk, or our own.
    if (word === null || word.gateway === this.gateway.id || this.gateway.stopping) return
    this.adopt(word.canary)
    this.tracked.get(word.canary.id)?.told(word)
  }

  /** The gateway that was asked judges; without it, the first of those that are there. */
  private isJudge({ gateway }: Canary): boolean {
    if (gateway === this.gateway.id) return true
    const others = otherGateways(this.gateway)
    return !others.includes(gateway) && others.every((id) => id > this.gateway.id)
  }

  /** The last canary of the node's version. */
  private latestOf(node: NodeEntry): TrackedCanary | null {
    let latest: TrackedCanary | null = null
    for (const one of this.tracked.values()) {
      if (one.canary.pool !== node.pool || one.canary.version !== node.version) continue
      if (latest === null || isLater(one.canary, latest.canary)) latest = one
    }
    return latest
  }

  private find(id: string): TrackedCanary {
    const one = this.tracked.get(id)
    if (one === undefined) throw new EvenkeelError('NOT_FOUND', `no canary ${id}`)
    return one
  }

  private assertPlans(): void {
    if (this.gateway.stopping)
      throw new EvenkeelError('DRAINING', `gateway ${this.gateway.id} is draining; ask another one`)
  }

  private checkPool(pool: string, version: string): Sides<NodeEntry> {
    const { nodes, placement } = this.gateway
    const known = nodes.poolNames()
    if (!known.includes(pool)) {
      const names = known.join(', ') || 'none, as no node is linked'
      throw new EvenkeelError('NOT_FOUND', `no pool ${pool}; known: ${names}`)
    }
    const refuse = (message: string) => new EvenkeelError('CONFLICT', `pool ${pool} ${message}`)
    if (placement.isByMessage(pool))
      throw refuse('has affinity message: its sessions are at all nodes, so none can be at one version')
    const ruling = this.of(pool)
    if (ruling !== null && ruling.state !== 'returned')
      throw refuse(`has a canary already, ${ruling.id} (${ruling.state}): return or promote it first`)
    const up = nodes.inPool(pool)
    const sides = sidesOf(up, { version })
    const versions = [...new Set(up.map((node) => node.version ?? '(none)'))].join(', ') || 'none'
    if (!sides.canary.some(participates))
      throw refuse(`has no active node of version ${version}; versions: ${versions}`)
    if (!sides.others.some(participates))
      throw refuse(
        `has no active node of another version than ${version}: there is nothing to compare it with`,
      )
    return sides
  }
}

function started(one: TrackedCanary, operation: OperationRecord): CanaryStarted {
  return { canary: one.view(), operation: operation.view() }
}

function endedBy(canary: Canary, { canary: other }: TrackedCanary): Canary {
  return { ...canary, state: 'ended', reason: `canary ${other.id} has taken its place` }
}
