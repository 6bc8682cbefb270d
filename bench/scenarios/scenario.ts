import type { LoadResult, OpenResult } from '../load/commands.ts'
import type { Goal } from '../report/goals.ts'
import type { Remarks } from '../report/remarks.ts'
import type { Table } from '../report/table.ts'

export interface Settings {
  /** Shorter windows and one repeat: a smoke test whose figures are rough. */
  quick: boolean
  progress(text: string): void
}

export interface Report {
  tables: Table[]
  goals: Goal[]
  remarks: Remarks
  /** The figures of every repeat, for the JSON file. */
  data: unknown
}

export interface Scenario {
  name: string
  summary: string
  run(settings: Settings): Promise<Report>
}

export const payloadBytes = 128

export function checkLoad(who: string, { errors, notes }: LoadResult, { failures }: Remarks): void {
  const { closed, wrong, missing } = errors
  if (closed + wrong + missing === 0) return
  const details = notes.length === 0 ? '' : ` (${notes.slice(0, 3).join('; ')})`
  failures.push(
    `${who}: ${closed} connections lost, ${wrong} wrong echoes, ${missing} echoes missing${details}`,
  )
}

export function checkOpened(who: string, { failed, notes }: OpenResult, { failures }: Remarks): void {
  if (failed > 0) failures.push(`${who}: ${failed} handshakes failed (${notes[0] ?? 'no answer'})`)
}
