import {
  type HandoverEffect,
  type HandoverEvent,
  type HandoverPhase,
  handoverStep,
} from '../core/session/handover.ts'
import type { Limits } from '../protocol/limits.ts'
import type { NodeEntry } from './node-entry.ts'
import type { MigrationOutcome, MigrationReason } from './operator.ts'
import type { Session } from './session.ts'

export interface MoveResult {
  readonly session: Session
  readonly from: NodeEntry
  readonly to: NodeEntry
  readonly reason: MigrationReason
  readonly outcome: MigrationOutcome
  /** The session is at the target now. */
  readonly moved: boolean
  /** Time for which client messages were kept back; null when it did not come to that. */
  readonly pauseMs: number | null
  /** Client messages that were kept back. */
  readonly held: number
  /** From its beginning to its end. */
  readonly tookMs: number
}

/** Something that wants sessions moved: asked for the next one whenever there is room. */
export interface MoveSource {
  readonly reason: MigrationReason
  /** The source paces itself; the gateway's budget does not apply. */
  readonly ownBudget: boolean
  next(): { session: Session; target: NodeEntry } | null
  result(result: MoveResult): void
}

export interface MigratorOptions {
  /** Read at each use: they may change. */
  limits: Pick<Limits, 'migrationWindow' | 'migrationsPerSecond' | 'prepareMs' | 'quiesceMs'>
  now: () => number
  onResult(result: MoveResult): void
}

const outcomes: Record<HandoverEvent, MigrationOutcome> = {
  ready: 'moved',
  fin: 'moved',
  refused: 'refused',
  deadline: 'prepare-timeout',
  'source-lost': 'source-lost',
  'source-refused': 'cancelled',
  'target-lost': 'target-lost',
  'session-closed': 'session-closed',
  cancelled: 'cancelled',
  'target-vetoed': 'vetoed',
  'source-vetoed': 'vetoed',
}

/** How often deadlines and the budget are looked at while there is something to do. */
const tickMs = 25

/** Carries out migrations: at most `limits.migrationWindow` at once, at most `limits.migrationsPerSecond` started in a second. */
export class Migrator {
  private readonly options: MigratorOptions
  private readonly moves = new Set<Move>()
  private readonly sources = new Set<MoveSource>()
  private timer: NodeJS.Timeout | null = null
  private budget: number
  private refilledAt: number
  private pumping = false

  constructor(options: MigratorOptions) {
    this.options = options
    this.budget = options.limits.migrationsPerSecond / 10
    this.refilledAt = options.now()
  }

  get inFlight(): number {
    return this.moves.size
  }

  /** Takes moves from `source` until it is removed. */
  add(source: MoveSource): void {
    this.sources.add(source)
    this.pump()
  }

  remove(source: MoveSource): void {
    this.sources.delete(source)
  }

  /** Moves one session now, whatever the budget is. */
  start(session: Session, target: NodeEntry, source: MoveSource): Move {
    const move = new Move(session, target, source, this.options, (result) => this.finished(move, result))
    this.moves.add(move)
    this.arm()
    move.start()
    return move
  }

  stop(): void {
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    this.sources.clear()
    for (const move of [...this.moves]) move.step('cancelled')
  }

  /** Starts what there is room for. To be called when a source may have more again. */
  pump(): void {
    // A move can finish while it is being started (its target refuses at once); one loop is enough.
    if (this.pumping) return
    this.pumping = true
    this.refill()
    for (const source of this.sources) {
      while (this.moves.size < this.options.limits.migrationWindow && (source.ownBudget || this.hasBudget)) {
        const next = source.next()
        if (next === null) break
        if (!source.ownBudget) this.budget--
        this.start(next.session, next.target, source)
      }
    }
    this.pumping = false
    if (this.sources.size > 0) this.arm()
  }

  private finished(move: Move, result: MoveResult): void {
    this.moves.delete(move)
    this.options.onResult(result)
    move.source.result(result)
    if (this.moves.size <= this.options.limits.migrationWindow / 2) this.pump()
  }

  private get hasBudget(): boolean {
    return this.options.limits.migrationsPerSecond === 0 || this.budget >= 1
  }

  private refill(): void {
    const rate = this.options.limits.migrationsPerSecond
    const now = this.options.now()
    this.budget = Math.min(Math.max(1, rate / 10), this.budget + ((now - this.refilledAt) / 1000) * rate)
    this.refilledAt = now
  }

  private arm(): void {
    this.timer ??= setTimeout(() => {
      this.timer = null
      const now = this.options.now()
      for (const move of this.moves) if (now >= move.deadlineAt) move.step('deadline')
      this.pump()
      if (this.moves.size > 0) this.arm()
    }, tickMs)
  }
}

/** One migration on its way: runs the effects that the hand-over table orders. */
export class Move {
  readonly session: Session
  readonly source: MoveSource
  readonly from: NodeEntry
  readonly to: NodeEntry
  /** The term that the target will have. */
  readonly attempt: number
  deadlineAt: number
  private readonly options: MigratorOptions
  private readonly done: (result: MoveResult) => void
  private phase: HandoverPhase = 'preparing'
  private quiescedAt: number | null = null
  private readonly startedAt: number

  constructor(
    session: Session,
    target: NodeEntry,
    source: MoveSource,
    options: MigratorOptions,
    done: (result: MoveResult) => void,
  ) {
    this.session = session
    this.source = source
    this.from = session.node!
    this.to = target
    this.attempt = session.nextTerm()
    this.options = options
    this.startedAt = options.now()
    this.deadlineAt = this.startedAt + options.limits.prepareMs
    this.done = done
  }

  get quiescing(): boolean {
    return this.phase === 'quiescing'
  }

  start(): void {
    this.session.move = this
    this.from.outgoing++
    this.to.incoming.add(this)
    this.session.prepare(this.to, this.attempt)
  }

  sessionClosed(): void {
    this.step('session-closed')
  }

  step(event: HandoverEvent): void {
    const wasQuiescing = this.quiescing
    const step = handoverStep(this.phase, event)
    if (step === null) return
    this.phase = step.phase
    const over = step.phase === 'moved' || step.phase === 'stayed'
    if (over) {
      this.session.move = null
      this.from.outgoing--
      this.to.incoming.delete(this)
    }
    const held = this.session.inbox.last - this.session.inbox.sent
    const from = this.session.term
    for (const effect of step.effects) this.run(effect, from)
    if (!over) return
    const now = this.options.now()
    this.done({
      session: this.session,
      from: this.from,
      to: this.to,
      reason: this.source.reason,
      outcome: event === 'deadline' && wasQuiescing ? 'quiesce-timeout' : outcomes[event],
      moved: step.phase === 'moved',
      pauseMs: this.quiescedAt === null ? null : now - this.quiescedAt,
      held: this.quiescedAt === null ? 0 : held,
      tookMs: now - this.startedAt,
    })
  }

  private run(effect: HandoverEffect, sourceTerm: number): void {
    const { session, to, from } = this
    switch (effect) {
      case 'quiesce-source':
        this.quiescedAt = this.options.now()
        this.deadlineAt = this.quiescedAt + this.options.limits.quiesceMs
        session.quiesce(this.attempt)
        break
      case 'resume-source':
        session.resume(this.attempt)
        break
      case 'release-source':
        session.releaseFormer(from, sourceTerm)
        break
      case 'release-target':
        session.releaseTarget(to, this.attempt)
        break
      case 'activate':
        session.activate(to, this.attempt, true, this.source.reason)
        break
      case 'activate-recovered':
        session.activate(to, this.attempt, false, this.source.reason)
        break
    }
  }
}
