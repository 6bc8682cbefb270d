import type { ChannelMessage, ChannelVerdict } from '../../client/index.ts'
import { type Position, parsePosition } from '../../src/protocol/position.ts'

/** What a publisher says of a channel with history. */
export interface Published {
  /** Number of the last message. That one is certain. */
  last: number
  /** Messages of which nobody knows whether they went out: their call failed or was not answered. */
  uncertain: number[]
}

/** What went wrong in channels, in numbers of messages, except `unjustified`. All zero is what Evenkeel promises. */
export interface RoomFaults {
  lost: number
  doubled: number
  reordered: number
  /** Positions that do not follow each other. */
  misplaced: number
  /** Gaps without a loss of data that explains them, and a channel joined twice. */
  unjustified: number
}

export const noRoomFaults: Readonly<RoomFaults> = {
  lost: 0,
  doubled: 0,
  reordered: 0,
  misplaced: 0,
  unjustified: 0,
}

export interface RoomVerdict extends RoomFaults {
  messages: number
  /** Verdicts `continuous`. */
  continuous: number
  /** Verdicts `gap`. */
  gaps: number
  notes: string[]
}

type Entry =
  | { kind: 'message'; n: number; position: Position | null }
  | { kind: ChannelVerdict['verdict']; position: Position | null; at: number }

const notesMax = 4

/** What one client heard of one channel, in order. */
export class RoomBook {
  private readonly name: string
  private readonly entries: Entry[] = []
  last = 0

  constructor(name: string) {
    this.name = name
  }

  /** Something was said of it. */
  get known(): boolean {
    return this.entries.length > 0
  }

  hear({ position, data }: ChannelMessage): void {
    this.last = Number(data)
    this.entries.push({ kind: 'message', n: this.last, position: parsed(position) })
  }

  /** `at`: microseconds of the machine's monotonic clock. */
  judge({ verdict, position }: ChannelVerdict, at: number): void {
    this.entries.push({ kind: verdict, position: parsed(position), at })
  }

  /** `lossesAt`: when the store lost its data, on the clock of `judge`. */
  verdict(published: Published, lossesAt: readonly number[]): RoomVerdict {
    return new RoomJudge(this.name, published, lossesAt).judge(this.entries)
  }
}

/** A message that does not follow the one before it. */
interface Jump {
  text: string
  /** Messages that are certain and did not come. */
  missing: number
}

class RoomJudge {
  private readonly name: string
  private readonly published: Published
  private readonly lossesAt: readonly number[]
  private readonly uncertain: ReadonlySet<number>
  private readonly seen = new Set<number>()
  private readonly verdict: RoomVerdict = { ...noRoomFaults, messages: 0, continuous: 0, gaps: 0, notes: [] }
  private highest = 0
  private position: Position | null = null
  /** The next message may have any number: the client has just joined, or was told of a gap. */
  private isOpen = false
  private isJoined = false
  /** Not explained yet: the word of a gap comes with the messages behind it. */
  private jumps: Jump[] = []

  constructor(name: string, published: Published, lossesAt: readonly number[]) {
    this.name = name
    this.published = published
    this.lossesAt = lossesAt
    this.uncertain = new Set(published.uncertain)
  }

  judge(entries: readonly Entry[]): RoomVerdict {
    for (const entry of entries) {
      if (entry.kind === 'message') this.message(entry.n, entry.position)
      else if (entry.kind === 'continuous') this.continues()
      else if (entry.kind === 'joined') this.join(entry.position)
      else this.gap(entry.position, entry.at)
    }
    this.condemnJumps()
    const { last } = this.published
    if (this.highest < last) this.note('lost', `nothing after ${this.highest}, the last is ${last}`)
    return this.verdict
  }

  private join(position: Position | null): void {
    if (this.isJoined) this.note('unjustified', 'joined again')
    this.isJoined = true
    this.isOpen = true
    this.position = position
  }

  private continues(): void {
    this.verdict.continuous++
    this.condemnJumps()
  }

  private gap(position: Position | null, at: number): void {
    this.verdict.gaps++
    const losses = this.lossesAt.filter((lossAt) => lossAt < at).length
    if (this.verdict.gaps > losses)
      this.note('unjustified', `gap ${this.verdict.gaps} after ${losses} losses`)
    this.jumps = []
    // Up to where the client is; then the next message follows that.
    if (position !== null && this.position !== null && isSame(position, this.position)) return
    this.isOpen = true
    this.position = position
  }

  private message(n: number, position: Position | null): void {
    this.verdict.messages++
    const before = this.position
    this.position = position
    if (this.seen.has(n)) {
      this.note('doubled', `${n} again`)
      return
    }
    this.seen.add(n)
    if (n < this.highest) {
      // A call that was not answered may take effect after the next one.
      if (!this.uncertain.has(n)) this.note('reordered', `${n} after ${this.highest}`)
      return
    }
    this.follow(n, position, before)
    this.isOpen = false
    this.highest = n
  }

  private follow(n: number, position: Position | null, before: Position | null): void {
    if (position === null) this.note('misplaced', `${n} has no position`)
    const follows = position === null || before === null || isNext(position, before)
    let missing = 0
    for (let one = this.highest + 1; !this.isOpen && one < n; one++) if (!this.uncertain.has(one)) missing++
    if (follows && missing === 0) return
    this.jumps.push({ text: `${n} (${show(position)}) after ${this.highest} (${show(before)})`, missing })
  }

  /** No word of a gap came with them. */
  private condemnJumps(): void {
    for (const { text, missing } of this.jumps) {
      if (missing > 0) this.note('lost', text, missing)
      else this.note('misplaced', text)
    }
    this.jumps = []
  }

  private note(fault: keyof RoomFaults, text: string, count = 1): void {
    this.verdict[fault] += count
    if (this.verdict.notes.length < notesMax) this.verdict.notes.push(`${this.name}: ${fault}: ${text}`)
  }
}

function isSame(a: Position, b: Position): boolean {
  return a.epoch === b.epoch && a.offset === b.offset
}

function isNext({ epoch, offset }: Position, before: Position): boolean {
  return epoch === before.epoch && offset === before.offset + 1
}

function show(position: Position | null): string {
  return position === null ? 'nowhere' : `${position.epoch}-${position.offset}`
}

function parsed(position: string | null): Position | null {
  return position === null ? null : parsePosition(position)
}
