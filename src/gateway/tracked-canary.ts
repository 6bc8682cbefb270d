import { type Canary, type Sides, sidesOf } from '../core/balance/canary.ts'
import { nothingSeen, type Seen, typicalMs } from '../core/health/canary-verdict.ts'
import { CanaryMoves } from './canary-moves.ts'
import type { CanaryView, SeenView } from './canary-operator.ts'
import { percentOf } from './canary-order.ts'
import { CanaryWatch } from './canary-watch.ts'
import type { CanaryProgress, CanaryWord } from './canary-word.ts'
import type { Gateway } from './gateway.ts'
import type { NodeEntry } from './node-entry.ts'
import type { OperationRecord } from './operations.ts'

/** While nothing changes, sessions at the wrong side are looked for this often: clients that resume come where their node is. */
const scanMs = 10_000
/** A gateway that says nothing for so long is not waited for. */
const peerMs = 10_000

interface Peer {
  readonly at: number
  readonly word: CanaryWord
}

interface RunningOperation {
  readonly record: OperationRecord
  /** What all gateways had moved before. */
  readonly before: number
  /** What has moved, where drains do it; null: the canary's own moves. */
  readonly drained: (() => number) | null
  readonly until: number
}

/** A canary as this gateway follows it: its own part, what the others tell of theirs, and the operation that an operator looks at. */
export class TrackedCanary {
  canary: Canary
  readonly moves: CanaryMoves
  watch: CanaryWatch
  /** Nodes that were given the canary to keep, and which revision. */
  readonly steered = new WeakMap<NodeEntry, number>()
  /** Nodes came or went, or the canary has changed: sessions may be at the wrong side. */
  dirty = true
  /** What is new here has not been told. */
  untold = true
  toldAt: number
  private readonly gateway: Gateway
  private readonly peers = new Map<string, Peer>()
  private operation: RunningOperation | null = null
  private changedAt: number
  private scannedAt: number

  constructor(canary: Canary, gateway: Gateway) {
    const { nodes, migrator, placement } = gateway
    const now = gateway.now()
    this.canary = canary
    this.gateway = gateway
    this.toldAt = now
    this.changedAt = now
    this.scannedAt = now
    this.watch = new CanaryWatch(canary, nodes.inPool(canary.pool), now)
    this.moves = new CanaryMoves(canary, {
      nodes,
      migrator,
      placement,
      now: () => gateway.now(),
      settled: (result) => this.operation?.record.note(result),
    })
  }

  get sides(): Sides<NodeEntry> {
    return sidesOf(this.gateway.nodes.inPool(this.canary.pool), this.canary)
  }

  /** Sessions at nodes of the version, over all gateways. */
  get sessions(): number {
    return sessionsAt(this.sides.canary)
  }

  get poolSessions(): number {
    return sessionsAt(this.gateway.nodes.inPool(this.canary.pool))
  }

  set(canary: Canary): void {
    this.canary = canary
    this.dirty = true
    this.untold = true
    this.changedAt = this.gateway.now()
    if (this.watch.from !== canary.watchFrom)
      this.watch = new CanaryWatch(canary, this.gateway.nodes.inPool(canary.pool), this.changedAt)
  }

  told(word: CanaryWord): void {
    this.peers.set(word.gateway, { at: this.gateway.now(), word })
  }

  /** To be called now and then while it rules its pool. */
  look(now: number): void {
    const { state, pool, changedAt } = this.canary
    if (state === 'watching') this.watch.look(this.gateway.nodes.inPool(pool), now)
    const isLate = state === 'returning' && Date.now() - changedAt > this.gateway.limits.drainDeadlineMs
    if (isLate) for (const node of this.sides.canary) this.gateway.steering.takeAway(node)
    if (this.dirty || this.moves.progress.left > 0 || now - this.scannedAt >= scanMs) this.scan(now)
  }

  scan(now: number): void {
    this.dirty = false
    this.scannedAt = now
    this.moves.scan(this.canary)
  }

  /** It says no more where sessions belong. */
  cancel(): void {
    this.moves.cancel()
    this.endOperation('cancelled')
  }

  /** `drained` counts what drains move for it; null: its own moves count. */
  begin(total: number, drained: (() => number) | null = null): OperationRecord {
    this.endOperation('cancelled')
    const { pool, version } = this.canary
    const { operations, limits } = this.gateway
    const now = this.gateway.now()
    const record = operations.start('canary', `${pool} ${version}`, total)
    const own = () => this.moves.progress.moved + this.moves.progress.returned
    const ownBefore = own()
    record.countMoved = drained ?? (() => own() - ownBefore)
    const { moved, returned } = this.progress
    const until = now + limits.drainDeadlineMs + peerMs
    this.operation = { record, before: moved + returned, drained, until }
    this.follow(now)
    return record
  }

  /** Looks how the operation goes, and whether it is over. */
  follow(now: number): void {
    if (this.operation === null) return
    const { record, drained, before, until } = this.operation
    if (drained === null) {
      const { moved, returned, left } = this.progress
      const all = moved + returned - before
      record.movedElsewhere = Math.max(0, all - (record.countMoved?.() ?? 0))
      if (!this.dirty) record.total = all + left
    }
    const isDone = drained === null ? this.isSettled : drained() >= record.view().total
    if (isDone || now >= until) this.endOperation(isDone ? 'done' : 'failed')
  }

  private endOperation(state: 'done' | 'failed' | 'cancelled'): void {
    this.operation?.record.end(state)
    this.operation = null
  }

  /** Of all gateways, as far as they have told. */
  get progress(): CanaryProgress {
    const total = { ...this.moves.progress }
    const live = new Set(otherGateways(this.gateway))
    for (const [id, { word }] of this.peers) {
      total.moved += word.progress.moved
      total.returned += word.progress.returned
      total.failed += word.progress.failed
      if (live.has(id)) total.left += word.progress.left
    }
    return total
  }

  /** Nothing is left to be moved, here or at the others: not before they have told of what was changed last. */
  get isSettled(): boolean {
    if (this.dirty || this.moves.progress.left > 0) return false
    const now = this.gateway.now()
    return otherGateways(this.gateway).every((id) => {
      const peer = this.peers.get(id)
      const isDeaf = now - (peer?.at ?? this.changedAt) >= peerMs
      const hasLooked = peer !== undefined && peer.word.canary.revision >= this.canary.revision
      return isDeaf || (hasLooked && peer.word.progress.left === 0)
    })
  }

  /** By all gateways since the watch began. */
  get seen(): { canary: Seen; others: Seen } {
    const words = [...this.peers.values()].map(({ word }) => word)
    const fresh = words.filter((word) => word.canary.watchFrom === this.canary.watchFrom)
    const all = [this.watch.seen, ...fresh.map(({ seen }) => seen)]
    return {
      canary: all.map(({ canary }) => canary).reduce(added, nothingSeen),
      others: all.map(({ others }) => others).reduce(added, nothingSeen),
    }
  }

  view(): CanaryView {
    const { canary, seen } = this
    return {
      id: canary.id,
      pool: canary.pool,
      version: canary.version,
      state: canary.state,
      reason: canary.reason,
      percent: percentOf(canary),
      gateway: canary.gateway,
      startedAt: canary.startedAt,
      watchFrom: canary.watchFrom,
      watchMs: canary.watchMs,
      maxErrorRatio: canary.maxErrorRatio,
      maxTimeRatio: canary.maxTimeRatio,
      minSessions: canary.minSessions,
      sessions: this.sessions,
      poolSessions: this.poolSessions,
      ...this.progress,
      seen: { canary: seenView(seen.canary), others: seenView(seen.others) },
    }
  }
}

export function otherGateways({ cluster, id: own }: Gateway): string[] {
  return cluster.registry.entries().flatMap(({ kind, id }) => (kind === 'gateway' && id !== own ? [id] : []))
}

export function sessionsAt(nodes: readonly NodeEntry[]): number {
  return nodes.reduce((sum, node) => sum + node.total, 0)
}

function seenView(seen: Seen): SeenView {
  const ms = typicalMs(seen)
  return {
    sessionSeconds: Math.round(seen.sessionMs / 1000),
    failures: seen.failures,
    failuresPerHour: seen.sessionMs === 0 ? 0 : Math.round((seen.failures / seen.sessionMs) * 3.6e9) / 1000,
    messageMs: ms === null ? null : Math.round(ms * 1000) / 1000,
  }
}

function added(a: Seen, b: Seen): Seen {
  return {
    sessionMs: a.sessionMs + b.sessionMs,
    failures: a.failures + b.failures,
    timed: a.timed + b.timed,
    timedLog: a.timedLog + b.timedLog,
  }
}
