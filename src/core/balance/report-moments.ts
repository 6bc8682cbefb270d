/** Between the moments at which nodes tell their gateways how many sessions they have, in ms. */
export const reportEveryMs = 50

/**
 * How long a node whose sessions have changed waits until it says so, in ms; more than 0 and at most `reportEveryMs`. `unixMs`: now. All
 * nodes speak at the same moments of the clock, because gateways compare them: one whose word is older seems to have less than it has.
 */
export function untilReport(unixMs: number): number {
  return reportEveryMs - (unixMs % reportEveryMs)
}
