import { randomBytes } from 'node:crypto'
import {
  type Canary,
  type CanaryState,
  canaryLimits,
  isDrawn,
  isLater,
  isNewer,
  parseCanary,
  rules,
  type Sides,
  shareNow,
  sidesOf,
} from '../core/balance/canary.ts'
import { participates } from '../core/balance/candidate.ts'
import { isFailureCode, judge, meanMs, nothingSeen, type Seen } from '../core/health/canary-verdict.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { CanaryMoves } from './canary-moves.ts'
import type { CanaryOrder, CanaryStarted, CanaryView, SeenView } from './canary-operator.ts'
import { CanaryWatch } from './canary-watch.ts'
import { type CanaryProgress, type CanaryWord, parseCanaryWord, writeCanaryWord } from './canary-word.ts'
import type { Gateway } from './gateway.ts'
import type { MoveResult } from './migrator.ts'
import type { NodeEntry } from './node-entry.ts'
import type { OperationRecord } from './operations.ts'
import type { Session } from './session.ts'

/** No channel of users can have this name. */
const topic = '$canaries'
/** Canaries that operators can look at; those that are over go first. */
const keptCanaries = 64
/** How often it is looked how canaries go; a failing one is left so soon. */
const tickMs = 250
/** Other gateways hear this often how it goes, and of changes at once. */
const tellMs = 1_000
/** While nothing changes, sessions at the wrong side are looked for this often: clients that resume come where their node is. */
const scanMs = 10_000
/** What a gateway said longer ago is not waited for. */
const peerMs = 10_000
/** Ids are drawn until one belongs to the side of the node that its client returns to. */
const idsMost = 20_000

interface Peer {
  readonly at: number
  readonly word: CanaryWord
}

interface Tracked {
  canary: Canary
  readonly moves: CanaryMoves
  watch: CanaryWatch
  readonly peers: Map<string, Peer>
  operation: CanaryOperation | null
  dirty: boolean
  scannedAt: number
  toldAt: number
  /** Nodes that were given the canary to keep, and which revision. */
  readonly steered: WeakMap<NodeEntry, number>
}

interface CanaryOperation {
  readonly record: OperationRecord
  /** What all gateways had moved before. */
  readonly before: number
  /** Sessions that are not moved by the canary but by drains, counted down. */
  readonly counted: (() => number) | null
  readonly until: number
}

const defaults = { watchMs: 600_000, maxErrorRatio: 2, maxTimeRatio: 3, minSessions: 1 }

/**
 * Canaries of live sessions: a share of a pool's sessions lives at nodes of one version, which is watched and, when it fails, left again. The
 * canary itself is kept by the version's nodes, as weights and drains are, so gateways agree without a store and those that start again
 * learn it. Each gateway moves and watches its own sessions, and tells the others; one of them judges.
 */
export class Canaries {
  private readonly gateway: Gateway
  private readonly tracked = new Map<string, Tracked>()
  /** The one of each pool that says where sessions belong. */
  private readonly ruling = new Map<string, Tracked>()
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

  /** The canary that says where sessions of the pool belong. */
  of(pool: string): Canary | null {
    return this.ruling.get(pool)?.canary ?? null
  }

  /** An id for a session whose client is to go to `chosen`: one that the canary leaves there. */
  sessionId(chosen: NodeEntry | null): string {
    const canary = chosen === null ? null : this.of(chosen.pool)
    let id = randomId()
    if (canary === null || chosen === null) return id
    const isCanary = chosen.version === canary.version
    for (let i = 1; i < idsMost && isDrawn(canary, id) !== isCanary; i++) id = randomId()
    return id
  }

  /** Whether a session of this id may be at the node. */
  fits(session: Session, node: NodeEntry): boolean {
    const canary = this.of(session.pool)
    return canary === null || isDrawn(canary, session.id) === (node.version === canary.version)
  }

  // For operators.

  start(order: CanaryOrder): CanaryStarted {
    const { pool, version } = order
    this.assertPlans()
    const sides = this.checkPool(pool, version)
    const { percent, watchMs, maxErrorRatio, maxTimeRatio, minSessions } = checkOrder(order)
    const now = Date.now()
    const canary: Canary = {
      id: `can_${randomBytes(9).toString('base64url')}`,
      pool,
      version,
      share: percent / 100,
      state: 'watching',
      revision: now,
      gateway: this.gateway.id,
      startedAt: now,
      watchFrom: now,
      changedAt: now,
      watchMs,
      maxErrorRatio,
      maxTimeRatio,
      minSessions,
      reason: '',
    }
    const total = sum([...sides.canary, ...sides.others], (node) => node.total)
    const one = this.adopt(canary)!
    this.spread(one)
    return this.started(one, Math.round(total * canary.share))
  }

  /** Its sessions go back, and the version gets no more. */
  return(id: string): CanaryStarted {
    this.assertPlans()
    const one = this.find(id)
    const { state } = one.canary
    if (state !== 'watching' && state !== 'passed' && state !== 'returning')
      throw new EvenkeelError('CONFLICT', `canary ${id} is ${state}: there is nothing to return`)
    const total = sum(this.sides(one).canary, (node) => node.total)
    if (state !== 'returning') this.change(one, { state: 'returning', reason: 'an operator wants it' })
    return this.started(one, total)
  }

  /** With `percent` its share grows and the watch begins anew. Without, it gets the whole pool: nodes of other versions are drained. */
  promote(id: string, percent?: number): CanaryStarted {
    this.assertPlans()
    const one = this.find(id)
    const { state, share, pool, version } = one.canary
    if (state !== 'watching' && state !== 'passed')
      throw new EvenkeelError('CONFLICT', `canary ${id} is ${state}: start another one`)
    const sides = this.sides(one)
    const total = sum([...sides.canary, ...sides.others], (node) => node.total)
    if (percent !== undefined) {
      checkPercent(percent)
      if (percent / 100 <= share) {
        throw new EvenkeelError(
          'BAD_REQUEST',
          `percent must be above the ${percentOf(share)} that canary ${id} has; to give it less, return it`,
        )
      }
      const now = Date.now()
      const change = { share: percent / 100, state: 'watching' as const, watchFrom: now }
      this.change(one, { ...change, reason: 'promoted by an operator' })
      return this.started(one, Math.round(total * (percent / 100 - share)))
    }
    const takers = sides.canary.filter(participates)
    const room = sum(takers, ({ maxSessions }) => maxSessions ?? Number.POSITIVE_INFINITY)
    if (room < total) {
      throw new EvenkeelError(
        'CONFLICT',
        `nodes of version ${version} take ${room} sessions, pool ${pool} has ${total}: start more of them`,
      )
    }
    const leaving = sides.others
    const left = () => sum(leaving, (node) => (node.health === 'down' ? 0 : node.total))
    const before = left()
    this.change(one, { state: 'promoted', reason: 'promoted by an operator' })
    const started = this.started(one, before, () => before - left())
    for (const node of leaving) this.gateway.drain(node, { deadlineMs: null, ratePerSecond: null })
    return started
  }

  list(): CanaryView[] {
    return [...this.tracked.values()]
      .map((one) => this.view(one))
      .toSorted((a, b) => b.startedAt - a.startedAt)
  }

  get(id: string): CanaryView {
    return this.view(this.find(id))
  }

  // For the gateway.

  /** What the node keeps of the canary of its version; undefined: nothing. */
  reported(node: NodeEntry, text: string | undefined): void {
    const kept = text === undefined ? null : parseCanary(text)
    if (kept !== null && kept.pool === node.pool && kept.version === node.version) this.adopt(kept)
    const own = this.latestOf(node)
    if (own === null || own.steered.get(node) === own.canary.revision) return
    if (kept === null || kept.id !== own.canary.id || kept.revision < own.canary.revision)
      this.steer(own, node)
  }

  /** Nodes came, went or changed. */
  nodesChanged(): void {
    for (const one of this.ruling.values()) one.dirty = true
  }

  /** A node that went without a word: a version whose nodes do that fails. */
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

  private tick(): void {
    const now = this.gateway.now()
    for (const one of this.tracked.values()) {
      this.follow(one, now)
      if (!rules(one.canary) || this.ruling.get(one.canary.pool) !== one) continue
      const { state, changedAt } = one.canary
      if (state === 'watching') one.watch.look(this.gateway.nodes.inPool(one.canary.pool), now)
      const isLate = state === 'returning' && Date.now() - changedAt > this.gateway.limits.drainDeadlineMs
      if (isLate) for (const node of this.sides(one).canary) this.gateway.takeAway(node)
      if (one.dirty || one.moves.progress.left > 0 || now - one.scannedAt >= scanMs) this.scan(one, now)
      if (this.isJudge(one.canary)) this.judge(one)
      if (now - one.toldAt >= tellMs) this.tell(one)
    }
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer)
    for (const { moves } of this.tracked.values()) moves.cancel()
  }

  // Inside.

  private judge(one: Tracked): void {
    const { canary } = one
    if (canary.state === 'returning') {
      const isEmpty = sum(this.sides(one).canary, (node) => node.total) === 0
      if (isEmpty && this.progress(one).left === 0)
        this.change(one, { state: 'returned', reason: canary.reason })
      return
    }
    if (canary.state !== 'watching') return
    const seen = this.seen(one)
    const verdict = judge(seen.canary, seen.others, Date.now() - canary.watchFrom, canary)
    if (verdict.kind === 'fail') this.fail(one, verdict.reason)
    else if (verdict.kind === 'pass') this.change(one, { state: 'passed', reason: verdict.reason })
  }

  private fail(one: Tracked, reason: string): void {
    const total = sum(this.sides(one).canary, (node) => node.total)
    this.change(one, { state: 'returning', reason })
    this.started(one, total)
  }

  private started(one: Tracked, total: number, counted: (() => number) | null = null): CanaryStarted {
    one.operation?.record.end('cancelled')
    const { canary } = one
    const record = this.gateway.operations.start('canary', `${canary.pool} ${canary.version}`, total)
    if (counted !== null) record.countMoved = counted
    const { moved, returned } = this.progress(one)
    const until = this.gateway.now() + this.gateway.limits.drainDeadlineMs + peerMs
    one.operation = { record, before: moved + returned, counted, until }
    if (counted === null) {
      const own = one.moves.progress
      const ownBefore = own.moved + own.returned
      record.countMoved = () => {
        const { moved: to, returned: back } = one.moves.progress
        return to + back - ownBefore
      }
    }
    this.follow(one, this.gateway.now())
    return { canary: this.view(one), operation: record.view() }
  }

  /** Looks how the operation goes, and whether it is over. */
  private follow(one: Tracked, now: number): void {
    const { operation } = one
    if (operation === null) return
    const { record, counted, before, until } = operation
    const { moved, returned, left } = this.progress(one)
    const settled = counted === null ? !one.dirty && left === 0 : counted() >= record.view().total
    if (counted === null) {
      const all = moved + returned - before
      record.movedElsewhere = Math.max(0, all - (record.countMoved?.() ?? 0))
      if (!one.dirty) record.total = all + left
    }
    if (!settled && now < until) return
    record.end(settled ? 'done' : 'failed')
    one.operation = null
  }

  private scan(one: Tracked, now: number): void {
    one.dirty = false
    one.scannedAt = now
    one.moves.scan(one.canary)
  }

  private change(one: Tracked, change: Partial<Canary> & { state: CanaryState; reason: string }): void {
    const now = Date.now()
    const reason = change.reason.slice(0, canaryLimits.reasonCharacters)
    const revision = Math.max(now, one.canary.revision + 1)
    this.set(one, { ...one.canary, ...change, reason, revision, changedAt: now })
    this.spread(one)
  }

  /** Takes over what another gateway has made, or made of it. Returns null when what is here is as new. */
  private adopt(canary: Canary): Tracked | null {
    const known = this.tracked.get(canary.id)
    if (known !== undefined) {
      if (!isNewer(canary, known.canary)) return null
      this.set(known, canary)
      return known
    }
    const { gateway } = this
    const { nodes, migrator, placement } = gateway
    const now = gateway.now()
    const one: Tracked = {
      canary,
      moves: new CanaryMoves(canary, {
        nodes,
        migrator,
        placement,
        now: () => gateway.now(),
        settled: (result) => one.operation?.record.note(result),
      }),
      watch: new CanaryWatch(canary, nodes.inPool(canary.pool), now),
      peers: new Map(),
      operation: null,
      dirty: true,
      scannedAt: now,
      toldAt: now,
      steered: new WeakMap(),
    }
    this.tracked.set(canary.id, one)
    this.set(one, canary)
    this.forget()
    return one
  }

  private set(one: Tracked, canary: Canary): void {
    const { pool } = canary
    const before = one.canary
    one.canary = canary
    if (one.watch.from !== canary.watchFrom)
      one.watch = new CanaryWatch(canary, this.gateway.nodes.inPool(pool), this.gateway.now())
    const ruling = this.ruling.get(pool)
    if (rules(canary) && ruling !== one) {
      if (ruling !== undefined && isLater(ruling.canary, canary)) {
        one.canary = { ...canary, state: 'ended', reason: `canary ${ruling.canary.id} has taken its place` }
      } else {
        this.ruling.set(pool, one)
        if (ruling !== undefined) {
          ruling.canary = {
            ...ruling.canary,
            state: 'ended',
            reason: `canary ${canary.id} has taken its place`,
          }
          ruling.moves.cancel()
          ruling.operation?.record.end('cancelled')
          ruling.operation = null
          this.publish(ruling)
        }
      }
    } else if (!rules(canary) && ruling === one) {
      this.ruling.delete(pool)
      one.moves.cancel()
    }
    one.dirty = true
    if (this.ruling.get(pool) === one) this.scan(one, this.gateway.now())
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

  private publish({ canary }: Tracked): void {
    const { id, pool, version, state, reason } = canary
    this.gateway.publish({
      type: 'canary',
      canary: id,
      pool,
      version,
      percent: percentNumber(canary),
      state,
      reason,
    })
  }

  /** Lets the version's nodes and the other gateways know. */
  private spread(one: Tracked): void {
    for (const node of this.sides(one).canary) this.steer(one, node)
    this.tell(one)
  }

  private steer(one: Tracked, node: NodeEntry): void {
    if (node.health === 'down') return
    one.steered.set(node, one.canary.revision)
    node.steer({ canary: JSON.stringify(one.canary) })
  }

  private tell(one: Tracked): void {
    const { gateway } = this
    const { cluster, id } = gateway
    if (!cluster.registry.entries().some((entry) => entry.kind === 'gateway' && entry.id !== id)) return
    const { canary, moves, watch } = one
    one.toldAt = gateway.now()
    const word = writeCanaryWord({ gateway: id, canary, progress: moves.progress, seen: watch.seen })
    // While Redis is away each gateway goes by what it sees itself.
    cluster.bus.publish(topic, word, true).catch(() => {})
  }

  private receive(payload: Buffer): void {
    const word = parseCanaryWord(payload)
    // Junk, or our own.
    if (word === null || word.gateway === this.gateway.id || this.gateway.stopping) return
    this.adopt(word.canary)
    const one = this.tracked.get(word.canary.id)
    one?.peers.set(word.gateway, { at: this.gateway.now(), word })
  }

  /** Of all gateways that are there. */
  private progress({ canary, moves, peers }: Tracked): CanaryProgress {
    const total = { ...moves.progress }
    const now = this.gateway.now()
    const live = new Set(this.gateway.cluster.registry.entries().map(({ id }) => id))
    live.delete(this.gateway.id)
    for (const [id, { at, word }] of peers) {
      total.moved += word.progress.moved
      total.returned += word.progress.returned
      total.failed += word.progress.failed
      if (live.has(id) && now - at < peerMs) total.left += word.progress.left
      // It has not looked at what was changed yet.
      if (live.has(id) && word.canary.revision < canary.revision && now - at < peerMs) total.left++
    }
    return total
  }

  private seen({ canary, watch, peers }: Tracked): { canary: Seen; others: Seen } {
    const words = [...peers.values()].map(({ word }) => word)
    const fresh = words.filter((word) => word.canary.watchFrom === canary.watchFrom).map(({ seen }) => seen)
    const all = [watch.seen, ...fresh]
    return {
      canary: all.map((one) => one.canary).reduce(added, nothingSeen),
      others: all.map((one) => one.others).reduce(added, nothingSeen),
    }
  }

  /** The gateway that was asked judges; without it, the first of those that are there. */
  private isJudge({ gateway }: Canary): boolean {
    if (gateway === this.gateway.id) return true
    const ids = this.gateway.cluster.registry
      .entries()
      .flatMap(({ kind, id }) => (kind === 'gateway' ? [id] : []))
    return !ids.includes(gateway) && ids.every((id) => id >= this.gateway.id)
  }

  private view(one: Tracked): CanaryView {
    const { canary } = one
    const sides = this.sides(one)
    const seen = this.seen(one)
    const { moved, returned, failed, left } = this.progress(one)
    return {
      id: canary.id,
      pool: canary.pool,
      version: canary.version,
      state: canary.state,
      reason: canary.reason,
      percent: percentNumber(canary),
      gateway: canary.gateway,
      startedAt: canary.startedAt,
      watchFrom: canary.watchFrom,
      watchMs: canary.watchMs,
      maxErrorRatio: canary.maxErrorRatio,
      maxTimeRatio: canary.maxTimeRatio,
      minSessions: canary.minSessions,
      sessions: sum(sides.canary, (node) => node.total),
      poolSessions: sum([...sides.canary, ...sides.others], (node) => node.total),
      moved,
      returned,
      failed,
      left,
      seen: { canary: seenView(seen.canary), others: seenView(seen.others) },
    }
  }

  private sides({ canary }: Tracked): Sides<NodeEntry> {
    return sidesOf(this.gateway.nodes.inPool(canary.pool), canary)
  }

  /** The last canary of the node's version. */
  private latestOf(node: NodeEntry): Tracked | null {
    let latest: Tracked | null = null
    for (const one of this.tracked.values()) {
      if (one.canary.pool !== node.pool || one.canary.version !== node.version) continue
      if (latest === null || isLater(one.canary, latest.canary)) latest = one
    }
    return latest
  }

  private find(id: string): Tracked {
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
      throw new EvenkeelError(
        'NOT_FOUND',
        `no pool ${pool}; known: ${known.join(', ') || 'none, as no node is linked'}`,
      )
    }
    if (placement.isByMessage(pool)) {
      throw new EvenkeelError(
        'CONFLICT',
        `pool ${pool} has affinity message: its sessions are at all nodes, so none can be at one version`,
      )
    }
    const ruling = this.of(pool)
    if (ruling !== null && ruling.state !== 'returned') {
      throw new EvenkeelError(
        'CONFLICT',
        `pool ${pool} has a canary already, ${ruling.id} (${ruling.state}): return or promote it first`,
      )
    }
    const up = nodes.inPool(pool)
    const split = sidesOf(up, { version } as Canary)
    const versions = [...new Set(up.map((node) => node.version ?? '(none)'))].join(', ')
    if (!split.canary.some(participates)) {
      throw new EvenkeelError(
        'CONFLICT',
        `pool ${pool} has no active node of version ${version}; versions: ${versions || 'none'}`,
      )
    }
    if (!split.others.some(participates)) {
      throw new EvenkeelError(
        'CONFLICT',
        `pool ${pool} has no active node of another version than ${version}: there is nothing to compare it with`,
      )
    }
    return split
  }
}

type Checked = Required<CanaryOrder>

function checkOrder(order: CanaryOrder): Checked {
  const checked = { ...defaults, ...order }
  checkPercent(checked.percent)
  const { watchMs, ratio, minSessions } = canaryLimits
  checkNumber('watchMs', checked.watchMs, watchMs, true)
  checkNumber('maxErrorRatio', checked.maxErrorRatio, ratio, false)
  checkNumber('maxTimeRatio', checked.maxTimeRatio, ratio, false)
  checkNumber('minSessions', checked.minSessions, minSessions, true)
  return checked
}

function checkPercent(percent: number): void {
  checkNumber('percent', percent, canaryLimits.percent, false)
}

function checkNumber(
  name: string,
  value: number,
  { least, most }: { least: number; most: number },
  isWhole: boolean,
): void {
  const fits = value >= least && value <= most && (!isWhole || Number.isSafeInteger(value))
  if (fits) return
  throw new EvenkeelError(
    'BAD_REQUEST',
    `${name} must be a ${isWhole ? 'whole ' : ''}number from ${least} to ${most}`,
  )
}

function percentNumber(canary: Canary): number {
  const share = canary.state === 'promoted' ? 1 : shareNow(canary)
  return Math.round(share * 100_000) / 1_000
}

function percentOf(share: number): string {
  return `${Math.round(share * 100_000) / 1_000} %`
}

function seenView(seen: Seen): SeenView {
  const mean = meanMs(seen)
  return {
    sessionSeconds: Math.round(seen.sessionMs / 1000),
    failures: seen.failures,
    failuresPerHour: seen.sessionMs === 0 ? 0 : Math.round((seen.failures / seen.sessionMs) * 3.6e9) / 1000,
    messageMs: mean === null ? null : Math.round(mean * 1000) / 1000,
  }
}

function added(a: Seen, b: Seen): Seen {
  return {
    sessionMs: a.sessionMs + b.sessionMs,
    failures: a.failures + b.failures,
    timed: a.timed + b.timed,
    timedMs: a.timedMs + b.timedMs,
  }
}

function randomId(): string {
  return randomBytes(16).toString('base64url')
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((total, item) => total + value(item), 0)
}
