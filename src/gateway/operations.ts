import { EvenkeelError } from '../protocol/errors.ts'
import type { MoveResult } from './migrator.ts'
import type { Operation } from './operator.ts'
import { randomText } from './random-text.ts'

const keptOperations = 256

/** A drain, a rebalance or a migration, as operators follow it. */
export class OperationRecord {
  private readonly operation: Operation
  private readonly pausesMs: number[] = []
  /** What other gateways have moved for this operation. */
  movedElsewhere = 0
  /** Counts what has moved, when nobody tells it move by move. */
  countMoved: (() => number) | null = null
  private readonly changed: (operation: Operation) => void

  constructor(
    kind: Operation['kind'],
    subject: string,
    total: number,
    changed: (operation: Operation) => void,
  ) {
    this.changed = changed
    this.operation = {
      id: `op_${randomText(9)}`,
      kind,
      subject,
      state: 'running',
      total,
      moved: 0,
      failed: 0,
      outcomes: {},
      pauseMs: null,
      startedAt: Date.now(),
      endedAt: null,
    }
    changed(this.view())
  }

  get id(): string {
    return this.operation.id
  }

  get running(): boolean {
    return this.operation.state === 'running'
  }

  /** Moves that were tried. */
  get settled(): number {
    return this.operation.moved + this.operation.failed
  }

  get moved(): number {
    return this.operation.moved
  }

  set total(total: number) {
    this.operation.total = total
  }

  add(result: MoveResult): void {
    if (result.moved) this.operation.moved++
    this.note(result)
  }

  /** As `add`, where what has moved is counted elsewhere. */
  note(result: MoveResult): void {
    if (!result.moved) this.operation.failed++
    const { outcomes } = this.operation
    outcomes[result.outcome] = (outcomes[result.outcome] ?? 0) + 1
    if (result.moved && result.pauseMs !== null) this.pausesMs.push(result.pauseMs)
  }

  end(state: 'done' | 'failed' | 'cancelled'): void {
    if (!this.running) return
    if (this.countMoved !== null) this.operation.moved = this.countMoved()
    this.countMoved = null
    this.operation.state = state
    this.operation.endedAt = Date.now()
    this.changed(this.view())
  }

  view(): Operation {
    const sorted = this.pausesMs.toSorted((a, b) => a - b)
    const pauseMs = sorted.length === 0 ? null : { p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) }
    const moved = (this.countMoved?.() ?? this.operation.moved) + this.movedElsewhere
    return { ...this.operation, moved, outcomes: { ...this.operation.outcomes }, pauseMs }
  }
}

/** The operations of this gateway; the oldest that have ended are forgotten. */
export class Operations {
  private readonly records = new Map<string, OperationRecord>()
  private readonly changed: (operation: Operation) => void

  constructor(changed: (operation: Operation) => void) {
    this.changed = changed
  }

  start(kind: Operation['kind'], subject: string, total: number): OperationRecord {
    const record = new OperationRecord(kind, subject, total, this.changed)
    this.records.set(record.id, record)
    for (const old of this.records.values()) {
      if (this.records.size <= keptOperations) break
      if (!old.running) this.records.delete(old.id)
    }
    return record
  }

  get(id: string): Operation {
    const record = this.records.get(id)
    if (record === undefined)
      throw new EvenkeelError('NOT_FOUND', `no operation ${id}; the last ${keptOperations} are kept`)
    return record.view()
  }

  all(): Operation[] {
    return [...this.records.values()].map((record) => record.view())
  }
}

/** Nearest rank. */
function quantile(sorted: readonly number[], q: number): number {
  const value = sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? 0
  return Math.round(value * 1000) / 1000
}
