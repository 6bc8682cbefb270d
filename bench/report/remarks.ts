export interface Remarks {
  /** What a reader must know to judge the figures. */
  notes: string[]
  /** What makes figures wrong or missing: a peer that died, an echo that did not come. */
  failures: string[]
}

export function noRemarks(): Remarks {
  return { notes: [], failures: [] }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
