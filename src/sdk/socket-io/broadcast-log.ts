/** Where a broadcast comes from; null: a server or an emitter that does not number what it sends. */
export type Origin = readonly [publisher: string, seq: number] | null

/** How far a node has heard a namespace. */
export interface HeardUpTo {
  /** Last number of each publisher that numbers. */
  numbered: [publisher: string, seq: number][]
  /** Of the others: how many since the fence. */
  others: number
}

/** From where on a reader wants what is heard. */
export interface LogMark {
  /** The reader's own broadcasts from here on, … */
  from: number
  /** … and those of others from here on: where it has heard the fence. Null: not yet. */
  fenceAt: number | null
  othersAtFence: number
}

interface Entry<Item> {
  readonly origin: Origin
  /** Counts broadcasts without a number; 0 for what is none. */
  readonly other: number
  readonly item: Item
}

/** What a session has got where it was before; what this node hears later may be among it too. */
export class HeardBefore {
  private readonly lastOf: ReadonlyMap<string, number>
  private readonly others: number

  /** `heard`: null when nobody knows; then nothing since the fence. */
  constructor(mark: LogMark, heard: HeardUpTo | null) {
    this.lastOf = new Map(heard?.numbered)
    this.others = mark.othersAtFence + (heard?.others ?? 0)
  }

  /** `other`: as counted by the log; 0 for what is no broadcast. */
  has(origin: Origin, other: number): boolean {
    if (origin === null) return other > 0 && other <= this.others
    return origin[1] <= (this.lastOf.get(origin[0]) ?? 0)
  }
}

/** Publishers that are remembered: processes of the cluster, those that have ended included. */
const mostPublishers = 1_024
/** Nobody hears later than this what others have heard. */
const recentMs = 15_000
const mostEntries = 16_384

/**
 * What was heard in one namespace, kept while a session is on its way. All servers hear the same in the same order, apart from what they
 * send themselves; so a fence, published once, splits it at the same place everywhere, and what follows can be counted.
 */
export class BroadcastLog<Item> {
  private readonly self: string
  private entries: Entry<Item>[] = []
  /** Number of the first entry that is kept. */
  private first = 0
  private others = 0
  private readonly marks = new Set<LogMark>()
  /** The one that has been silent for longest comes first. */
  private readonly lastOf = new Map<string, { seq: number; at: number }>()
  private readonly now: () => number
  /** Entries that a reader missed because the log was full. */
  dropped = 0

  constructor(self: string, now: () => number) {
    this.self = self
    this.now = now
  }

  get isKept(): boolean {
    return this.marks.size > 0
  }

  get othersCount(): number {
    return this.others
  }

  broadcast(origin: Origin, item: Item): void {
    if (origin === null) this.others++
    else this.remember(origin)
    this.keep(origin, origin === null ? this.others : 0, item)
  }

  /** What is not numbered nor counted: doing it again changes nothing. */
  operation(item: Item): void {
    this.keep(null, 0, item)
  }

  open(): LogMark {
    const mark = { from: this.end, fenceAt: null, othersAtFence: this.others }
    this.marks.add(mark)
    return mark
  }

  fence(mark: LogMark): void {
    mark.fenceAt = this.end
    mark.othersAtFence = this.others
  }

  heardUpTo(othersAtFence: number): HeardUpTo {
    const isRecent = ({ at }: { at: number }) => this.now() - at < recentMs
    const numbered = [...this.lastOf].filter(([, last]) => isRecent(last))
    return {
      numbered: numbered.map(([publisher, { seq }]) => [publisher, seq]),
      others: this.others - othersAtFence,
    }
  }

  /** Ends reading; returns what is new, in the order in which it was heard here. */
  take(mark: LogMark, before: HeardBefore): Item[] {
    const missing = this.entries.slice(mark.from - this.first).filter(({ origin, other }, i) => {
      const isFenced = mark.fenceAt !== null && mark.from + i >= mark.fenceAt
      return (isFenced || origin?.[0] === this.self) && !before.has(origin, other)
    })
    this.close(mark)
    return missing.map(({ item }) => item)
  }

  close(mark: LogMark): void {
    this.marks.delete(mark)
    if (this.marks.size > 0) return
    this.first = this.end
    this.entries = []
  }

  private get end(): number {
    return this.first + this.entries.length
  }

  private keep(origin: Origin, other: number, item: Item): void {
    if (!this.isKept) return
    if (this.entries.length < mostEntries) this.entries.push({ origin, other, item })
    else this.dropped++
  }

  private remember([publisher, seq]: readonly [string, number]): void {
    this.lastOf.delete(publisher)
    this.lastOf.set(publisher, { seq, at: this.now() })
    if (this.lastOf.size > mostPublishers) this.lastOf.delete(this.lastOf.keys().next().value!)
  }
}
