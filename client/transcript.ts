import type { Json, RunEvent } from '../src/core/run/events.ts'

/** A piece of a run's answer. */
export interface RunPart {
  part: number
  kind: string
  data: Json
}

/** What a run has said so far, as its events make it. */
export class Transcript {
  parts: RunPart[] = []

  /** All text of kind `text`, in the order of the parts' first words. */
  get text(): string {
    return this.parts.map(({ kind, data }) => (kind === 'text' ? String(data) : '')).join('')
  }

  apply(event: RunEvent): void {
    if (event.type === 'delta') this.#add(event)
    else if (event.type === 'snap') this.parts = event.parts.map((part) => ({ ...part }))
    else if (event.type === 'fence' && event.resume === 'restart') this.parts = []
  }

  #add({ part, kind, data }: RunPart): void {
    const last = this.parts.findLast((one) => one.part === part && one.kind === kind)
    if (typeof data === 'string' && typeof last?.data === 'string') last.data += data
    else this.parts.push({ part, kind, data })
  }
}
