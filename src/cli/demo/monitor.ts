import type { NodeView } from '../../gateway/operator.ts'
import type { DemoCluster } from './cluster.ts'
import { type Note, noteOf } from './event-text.ts'
import { Pauses } from './pauses.ts'

/** A node that is down is shown for this long. */
const downShownMs = 30_000
const notesKept = 64

export type TimedNote = Note & { at: number }

/** Follows the cluster: what the display shows beside the clients' own numbers. */
export class Monitor {
  /** Sessions that moved, by a plan, a drain or a request. */
  migrations = 0
  /** Oldest first. */
  readonly notes: TimedNote[] = []
  private readonly cluster: DemoCluster
  private readonly pauses = new Pauses()
  private readonly downAt = new Map<string, number>()

  constructor(cluster: DemoCluster) {
    this.cluster = cluster
    cluster.onEvent((event, gateway) => {
      if (event.type === 'migration') {
        if (event.outcome !== 'moved') return
        this.migrations++
        if (event.pauseMs !== null) this.pauses.add(event.pauseMs)
        return
      }
      if (event.type === 'node-up') this.downAt.delete(event.node)
      if (event.type === 'node-down') this.downAt.set(event.node, event.at)
      const note = noteOf(event)
      if (note !== null) this.note(gateway === null ? note : { ...note, text: `${gateway}: ${note.text}` })
    })
  }

  note(note: Note): void {
    this.notes.push({ at: Date.now(), ...note })
    if (this.notes.length > notesKept) this.notes.shift()
  }

  get pauseMs(): { p50: number; p99: number } | null {
    return this.pauses.quantiles()
  }

  get redelivered(): number {
    return this.cluster.redelivered
  }

  nodes(): NodeView[] {
    const oldest = Date.now() - downShownMs
    return this.cluster
      .nodes()
      .filter(({ id, health }) => health !== 'down' || (this.downAt.get(id) ?? 0) >= oldest)
      .sort((a, b) => a.id.localeCompare(b.id, 'en', { numeric: true }))
  }
}
