/** Longest time before its end that a client is asked for another token. */
const askMs = 60_000

export interface Validity {
  /** Of the token itself. Unix milliseconds. */
  readonly expiresAt: number
  /** For how long after that it is taken all the same, since clocks differ. */
  readonly skewMs: number
}

/** When a client is to be asked for another token: with a quarter of its time left, a minute at most. */
export function askAt(now: number, { expiresAt }: Validity): number {
  return expiresAt - Math.min(askMs, Math.max(0, expiresAt - now) / 4)
}

/** When its connection is closed. */
export function endsAt({ expiresAt, skewMs }: Validity): number {
  return expiresAt + skewMs
}
