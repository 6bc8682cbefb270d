import { isDeepStrictEqual } from 'node:util'
import { EvenkeelError } from '../protocol/errors.ts'
import { type Entry, parseEntry } from './entry.ts'
import type { RegistryChange, StoreView } from './registry.ts'

/** What one watcher believes about the cluster. Pure but for the report of junk; time is passed in, in milliseconds. */
export class RegistryView {
  private readonly leaseMs: number
  private readonly onProblem: (problem: EvenkeelError) => void
  private known = new Map<string, Entry>()
  /** Entries that were complained about, so that each is reported once. */
  private junk = new Map<string, string>()
  private lastRevision = 0
  private doubtfulUntil = Number.NEGATIVE_INFINITY
  private keptDoubtful = false

  constructor(leaseMs: number, onProblem: (problem: EvenkeelError) => void) {
    this.leaseMs = leaseMs
    this.onProblem = onProblem
  }

  entries(): readonly Entry[] {
    return [...this.known.values()]
  }

  /** What the store need not send again; 0 asks for everything. */
  get revision(): number {
    return this.keptDoubtful ? 0 : this.lastRevision
  }

  /**
   * The store may have lost its data, or all leases while nobody could renew them. For one lease, absence says nothing:
   * the owners that live come back within it.
   */
  distrust(now: number): void {
    if (this.known.size > 0) this.doubtfulUntil = now + this.leaseMs
  }

  /** Time until entries that are only kept on doubt must be looked at again; null when there are none. */
  doubtsEndInMs(now: number): number | null {
    return this.keptDoubtful ? Math.max(0, this.doubtfulUntil - now) : null
  }

  update(stored: StoreView, now: number): RegistryChange[] {
    if (stored.revision < this.lastRevision) this.distrust(now)
    this.lastRevision = stored.revision
    if (stored.entries === null) return []
    const next = this.parse(stored.entries)
    const changes: RegistryChange[] = []
    this.keptDoubtful = false
    for (const [key, entry] of this.known) {
      const successor = next.get(key)
      if (successor === undefined && now < this.doubtfulUntil) {
        next.set(key, entry)
        this.keptDoubtful = true
      } else if (successor?.instance !== entry.instance) {
        changes.push({ type: 'left', entry })
      }
    }
    for (const [key, entry] of next) {
      const before = this.known.get(key)
      if (before?.instance !== entry.instance) changes.push({ type: 'joined', entry })
      else if (!isDeepStrictEqual(before, entry)) changes.push({ type: 'changed', entry })
    }
    this.known = next
    return changes
  }

  private parse(stored: readonly (readonly [key: string, json: string])[]): Map<string, Entry> {
    const entries = new Map<string, Entry>()
    const junk = new Map<string, string>()
    for (const [key, json] of stored) {
      const { entry, complaint } = parseEntry(key, json)
      if (entry !== null) {
        entries.set(key, entry)
        continue
      }
      junk.set(key, json)
      if (this.junk.get(key) === json) continue
      const name = JSON.stringify(key.slice(0, 80))
      this.onProblem(new EvenkeelError('RECORD_INVALID', `registry entry ${name} is ignored: ${complaint}`))
    }
    this.junk = junk
    return entries
  }
}
