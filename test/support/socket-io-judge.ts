import type { Epoch, Kind, Note } from './socket-io-ledger.ts'

/** What was killed, by id, and when on the machine's clock. */
export interface Kills {
  nodes: ReadonlyMap<string, number>
  gateways: ReadonlyMap<string, number>
}

export interface SocketIoVerdict {
  clients: number
  /** Events of clients that were handled. */
  handled: number
  acked: number
  casts: number
  /** What must not be. */
  lost: number
  doubled: number
  reordered: number
  corrupted: number
  /** Disconnects and new ids that nothing explains; rooms, ids and data that are not what they were. */
  disconnects: number
  changed: number
  /** What a killed node explains. Handled again, because nobody knew that it was. */
  redelivered: number
  /** Answers and late events of handlers that were in flight at a killed node, or behind it. */
  unanswered: number
  /** Acknowledgements of a server that had gone back to what was saved last. */
  rolledBack: number
  /** A second `connect` without a disconnect. */
  reattached: number
  /** Of a killed gateway. */
  reconnected: number
  /** The first of what is wrong. */
  notes: string[]
}

export const nothingWrong = {
  lost: 0,
  doubled: 0,
  reordered: 0,
  corrupted: 0,
  disconnects: 0,
  changed: 0,
  notes: [] as string[],
}

export const nothingKilled: Kills = { nodes: new Map(), gateways: new Map() }

const notesMost = 20
/** A handler that was cut off explains what is missing for this long: microseconds. */
const explainsUs = 10_000_000

/** Judges what clients (each with its epochs) have seen by what nodes have noted. Without kills everything has to be exact. */
export function judgeSocketIo(
  clients: readonly Epoch[][],
  notes: readonly Note[],
  kills: Kills,
): SocketIoVerdict {
  const verdict: SocketIoVerdict = {
    clients: clients.length,
    handled: 0,
    acked: 0,
    casts: 0,
    ...nothingWrong,
    redelivered: 0,
    unanswered: 0,
    rolledBack: 0,
    reattached: 0,
    reconnected: 0,
    notes: [],
  }
  const bySocket = Map.groupBy(notes, ({ socket }) => socket)
  const casts = castsOf(bySocket.get('') ?? [])
  for (const epochs of clients) {
    for (const epoch of epochs) {
      const mine = (bySocket.get(epoch.id) ?? []).toSorted((a, b) => a.at - b.at)
      new EpochJudge(verdict, epoch, mine, kills).judge(casts)
    }
    if (epochs.at(-1)?.until !== null)
      complain(verdict, 'disconnects', 'a client is not connected in the end')
  }
  return verdict
}

interface Casts {
  last: number
  firstAt: number
}

function castsOf(notes: readonly Note[]): Map<string, Casts> {
  const casts = new Map<string, Casts>()
  for (const { node, n, at } of notes) {
    const known = casts.get(node)
    casts.set(node, { last: Math.max(n, known?.last ?? 0), firstAt: Math.min(at, known?.firstAt ?? at) })
  }
  return casts
}

type Fault = 'lost' | 'doubled' | 'reordered' | 'corrupted' | 'disconnects' | 'changed'

function complain(verdict: SocketIoVerdict, fault: Fault, note: string, count = 1): void {
  verdict[fault] += count
  if (verdict.notes.length < notesMost) verdict.notes.push(`${fault}: ${note}`)
}

class EpochJudge {
  private readonly verdict: SocketIoVerdict
  private readonly epoch: Epoch
  private readonly notes: readonly Note[]
  private readonly kills: Kills
  private readonly handlings = new Map<number, Note[]>()
  /** It has been at nodes that were killed later: when. */
  private readonly hits: number[]

  constructor(verdict: SocketIoVerdict, epoch: Epoch, notes: readonly Note[], kills: Kills) {
    this.verdict = verdict
    this.epoch = epoch
    this.notes = notes
    this.kills = kills
    for (const note of notes) {
      if (note.n === 0) continue
      const known = this.handlings.get(note.n)
      if (known === undefined) this.handlings.set(note.n, [note])
      else known.push(note)
    }
    this.hits = [...new Set(notes.map(({ node }) => node))].flatMap((node) => kills.nodes.get(node) ?? [])
  }

  judge(casts: ReadonlyMap<string, Casts>): void {
    this.end()
    this.events()
    this.said()
    this.spoken('slow', 'acknowledgement', this.epoch.slow)
    this.spoken('slow', 'late event', this.epoch.late)
    this.questions()
    this.spoken('ask', 'answer at the server', this.epoch.answered)
    for (const [node, truth] of casts) this.casts(node, truth)
    this.account()
    const { corrupted } = this.epoch
    if (corrupted > 0) this.complain('corrupted', `${corrupted} blobs`, corrupted)
  }

  private get whole(): boolean {
    return this.epoch.until === null
  }

  private end(): void {
    const { end, transport, until } = this.epoch
    if (this.notes.filter(({ what }) => what === 'new').length > 1) this.complain('changed', 'was new twice')
    if (end === null) return
    if (end === 'connect') {
      if (this.hits.length > 0) this.verdict.reattached++
      else this.complain('changed', 'connected anew')
      return
    }
    // A client's connection may go by way of a gateway that is not its session's own.
    const explained = [...this.kills.gateways.values()].some(
      (at) => at <= until! && until! - at <= explainsUs,
    )
    if (explained) this.verdict.reconnected++
    else this.complain('disconnects', `${end} (${transport})`)
  }

  /** What the client has sent: handled in order, and again only when a node was killed. */
  private events(): void {
    const { sent } = this.epoch
    let last = 0
    for (const { n, what } of this.notes) {
      if (n === 0) continue
      this.verdict.handled++
      if (sent[n - 1] !== what) this.complain('corrupted', `event ${n} is ${what}, not ${sent[n - 1]}`)
      if (n <= last) continue
      if (n > last + 1)
        this.complain('lost', `events ${last + 1} to ${n - 1} before ${n}, or later`, n - last - 1)
      last = n
    }
    for (const [n, times] of this.handlings) {
      for (const { node, at } of times.slice(0, -1)) {
        if ((this.kills.nodes.get(node) ?? 0) >= at) this.verdict.redelivered++
        else this.complain('doubled', `event ${n} at ${times.map((one) => one.node)}`)
      }
    }
    if (this.whole && last < sent.length)
      this.complain('lost', `events ${last + 1} to ${sent.length}, the last ones`, sent.length - last)
    const perNode = Map.groupBy(this.notes, ({ node }) => node)
    for (const [node, notes] of perNode) {
      const numbers = notes.flatMap(({ n }) => (n === 0 ? [] : [n]))
      // It can come back to a node, but not with what that has had.
      if (numbers.some((n, i) => i > 0 && n <= numbers[i - 1]!))
        this.complain('reordered', `events at ${node}: ${clip(numbers)}`)
    }
  }

  /** Answers that the handler gave at once: none is missing, whatever was killed. */
  private said(): void {
    const { said } = this.epoch
    this.verdict.acked += said.length
    this.once(
      'acknowledgement of say',
      'say',
      said.map(([n]) => n),
      false,
    )
    this.ascending(
      'acknowledgements of say',
      said.map(([n]) => n),
    )
    for (const [n, heard] of said) {
      if (heard === n || this.epoch.anew) continue
      if (heard < n && this.hits.length > 0) this.verdict.rolledBack++
      else this.complain('changed', `the server has heard ${heard} events at ${n}`)
    }
  }

  private questions(): void {
    const { questions } = this.epoch
    this.once('question', 'ask', questions, false)
    const first = questions.filter((n, i) => questions.indexOf(n) === i)
    this.ascending('questions', first)
  }

  /** What a handler said later: it may be cut off. */
  private spoken(kind: Kind, name: string, numbers: readonly number[]): void {
    this.once(name, kind, numbers, true)
  }

  /** Each number of the kind once; again only when its event was handled again. */
  private once(name: string, kind: Kind, numbers: readonly number[], later: boolean): void {
    const counts = new Map<number, number>()
    for (const n of numbers) counts.set(n, (counts.get(n) ?? 0) + 1)
    this.epoch.sent.forEach((one, i) => {
      if (one !== kind) return
      const n = i + 1
      const count = counts.get(n) ?? 0
      counts.delete(n)
      const handled = this.handlings.get(n) ?? []
      if (count > Math.max(1, handled.length)) this.complain('doubled', `${name} ${n}: ${count} times`)
      if (count > 0 || !this.whole || handled.length === 0) return
      if (later && this.excuses(handled)) this.verdict.unanswered++
      else this.complain('lost', `${name} ${n}, handled at ${handled.map(({ node }) => node)}`)
    })
    for (const n of counts.keys()) this.complain('corrupted', `${name} ${n} of another kind`)
  }

  private excuses(handled: readonly Note[]): boolean {
    return this.hits.some((hit) => handled.some(({ at }) => hit >= at && hit - at <= explainsUs))
  }

  private casts(node: string, { last, firstAt }: Casts): void {
    const numbers = this.epoch.casts[node] ?? []
    this.verdict.casts += numbers.length
    const unique = new Set(numbers)
    if (unique.size < numbers.length)
      this.complain('doubled', `broadcasts of ${node}: ${clip(numbers)}`, numbers.length - unique.size)
    this.ascending(`broadcasts of ${node}`, [...unique])
    const isOlder = this.epoch.from < firstAt
    const first = isOlder ? 1 : (numbers[0] ?? last + 1)
    const isComplete = this.whole && !this.kills.nodes.has(node)
    const end = isComplete ? last : Math.max(0, ...numbers)
    const missing = Array.from({ length: Math.max(0, end - first + 1) }, (_, i) => first + i).filter(
      (n) => !unique.has(n),
    )
    if (missing.length > 0)
      this.complain('lost', `broadcasts of ${node}: ${clip(missing)} of ${last}`, missing.length)
  }

  private account(): void {
    const { account, id, sent, anew } = this.epoch
    if (!this.whole) return
    if (account === null) {
      this.complain('lost', 'its account')
      return
    }
    const { heard, mark, rooms } = account
    if (account.id !== id || mark !== id) this.complain('changed', `is ${account.id}, marked ${mark}`)
    if (rooms.toSorted().join() !== ['all', id].toSorted().join()) this.complain('changed', `rooms ${rooms}`)
    if (anew) return
    if (heard > sent.length || (heard < sent.length && this.hits.length === 0))
      this.complain('changed', `the server has heard ${heard} of ${sent.length} events`)
  }

  private ascending(name: string, numbers: readonly number[]): void {
    const at = numbers.findIndex((n, i) => i > 0 && n < numbers[i - 1]!)
    if (at > 0) this.complain('reordered', `${name}: ${clip(numbers.slice(Math.max(0, at - 5)))}`)
  }

  private complain(fault: Fault, note: string, count = 1): void {
    complain(this.verdict, fault, `${this.epoch.id}: ${note}`, count)
  }
}

function clip(numbers: readonly number[]): string {
  return `${numbers.slice(0, 20)}${numbers.length > 20 ? ` and ${numbers.length - 20} more` : ''}`
}
