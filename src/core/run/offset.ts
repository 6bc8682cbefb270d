/**
 * A place in a run's log: `<epoch>-<seq>`. The epoch counts attempts of producers from 1, the seq the events of one attempt from 1
 * (0: the fence that begins it). Clients treat it as opaque; in Redis it is the id of a stream entry.
 */
export interface Offset {
  readonly epoch: number
  readonly seq: number
}

/** Before everything. */
export const origin: Offset = { epoch: 0, seq: 0 }

const u32Max = 2 ** 32 - 1
const pattern = /^(0|[1-9]\d{0,9})-(0|[1-9]\d{0,9})$/

export function formatOffset({ epoch, seq }: Offset): string {
  return `${epoch}-${seq}`
}

/** null: it is none. */
export function parseOffset(text: string): Offset | null {
  const match = pattern.exec(text)
  if (match === null) return null
  const [epoch, seq] = [Number(match[1]), Number(match[2])]
  return epoch > u32Max || seq > u32Max ? null : { epoch, seq }
}

/** Below 0: `a` comes first; 0: the same. */
export function compareOffsets(a: Offset, b: Offset): number {
  return a.epoch - b.epoch || a.seq - b.seq
}
