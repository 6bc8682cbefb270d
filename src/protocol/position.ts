/** Place of a message in its channel's history (PROTOCOL.md §5.1). Pure and browser-safe. */
export interface Position {
  /** Incarnation of the history: another one after its data was lost or has expired. */
  readonly epoch: string
  /** Counts the channel's messages from 1; 0 is the place before the first one. */
  readonly offset: number
}

const positionPattern = /^([A-Za-z0-9_]{1,32})-(0|[1-9][0-9]{0,15})$/

export function formatPosition({ epoch, offset }: Position): string {
  return `${epoch}-${offset}`
}

/** Returns null for what is no position. */
export function parsePosition(text: string): Position | null {
  const match = positionPattern.exec(text)
  if (match === null) return null
  const offset = Number(match[2])
  return Number.isSafeInteger(offset) ? { epoch: match[1]!, offset } : null
}
