import type { NodeView, Stats } from './views.ts'

/** Seconds that the plots show. */
export const shownSeconds = 300
/** Nodes that get a line of their own; of more only their sum, the fullest and the emptiest are shown. */
export const nodeLines = 8
const lateSeconds = 3

/** What the plots draw: one array of times in seconds, and arrays of values. */
export type Columns = (number | null)[][]

/** One second of the cluster. */
interface Moment {
  at: number
  sessions: Map<string, number>
  stats: Map<string, Stats>
}

/** The last minutes of the cluster, put together from what its gateways tell. */
export class History {
  private readonly moments = new Map<number, Moment>()
  /** By gateway: what was seen of it last. */
  private readonly seen = new Map<string, number>()

  since(gateway: string): number {
    return this.seen.get(gateway) ?? 0
  }

  addStats(gateway: string, samples: readonly Stats[]): void {
    for (const sample of samples) {
      const { stats, sessions } = this.moment(sample.at)
      stats.set(gateway, sample)
      for (const [node, count] of Object.entries(sample.sessions)) sessions.set(node, count)
      this.seen.set(gateway, sample.at)
    }
  }

  addNodes(at: number, nodes: readonly NodeView[]): void {
    const { sessions } = this.moment(at)
    for (const { id, sessions: count } of nodes) sessions.set(id, count)
  }

  trim(now: number): void {
    const oldest = second(now) - shownSeconds
    for (const at of this.moments.keys()) if (at < oldest) this.moments.delete(at)
  }

  /** Of these nodes, in this order; of many the sum, the most and the fewest. */
  sessions(ids: readonly string[]): Columns {
    const moments = this.sorted().filter(({ sessions }) => sessions.size > 0)
    const times = moments.map(({ at }) => at)
    if (ids.length <= nodeLines)
      return [times, ...ids.map((id) => moments.map(({ sessions }) => sessions.get(id) ?? null))]
    const all = moments.map(({ sessions }) => [...sessions.values()])
    return [
      times,
      all.map((values) => Math.round(values.reduce((sum, one) => sum + one, 0) / values.length)),
      all.map((values) => values.reduce((most, one) => Math.max(most, one), 0)),
      all.map((values) => values.reduce((fewest, one) => Math.min(fewest, one), Number.POSITIVE_INFINITY)),
    ]
  }

  /** Each line is made of the samples of all gateways; one that is a little late counts with what it said before. */
  stats(...lines: ((samples: readonly Stats[]) => number | null)[]): Columns {
    const latest = new Map<string, Stats>()
    const times: number[] = []
    const columns: (number | null)[][] = lines.map(() => [])
    for (const { at, stats } of this.sorted()) {
      for (const [gateway, sample] of stats) latest.set(gateway, sample)
      for (const [gateway, sample] of latest) if (second(sample.at) < at - lateSeconds) latest.delete(gateway)
      if (latest.size === 0) continue
      times.push(at)
      const samples = [...latest.values()]
      for (const [index, line] of lines.entries()) columns[index]!.push(line(samples))
    }
    return [times, ...columns]
  }

  /** The newest sample of each gateway. */
  latest(): Map<string, Stats> {
    const latest = new Map<string, Stats>()
    for (const { stats } of this.sorted()) for (const [gateway, sample] of stats) latest.set(gateway, sample)
    return latest
  }

  private moment(at: number): Moment {
    const key = second(at)
    let moment = this.moments.get(key)
    if (moment === undefined) {
      moment = { at: key, sessions: new Map(), stats: new Map() }
      this.moments.set(key, moment)
    }
    return moment
  }

  private sorted(): Moment[] {
    return [...this.moments.values()].sort((a, b) => a.at - b.at)
  }
}

export function sum(of: (sample: Stats) => number): (samples: readonly Stats[]) => number {
  return (samples) => samples.reduce((total, sample) => total + of(sample), 0)
}

/** null: no sample has a value. */
export function most(of: (sample: Stats) => number | null): (samples: readonly Stats[]) => number | null {
  return (samples) =>
    samples.map(of).reduce((top, value) => (value === null ? top : Math.max(top ?? value, value)), null)
}

function second(at: number): number {
  return Math.floor(at / 1_000)
}
