/** Microseconds of a clock that all processes of the machine share, unlike `performance.now()`. */
export function sharedClockUs(): number {
  return Number(process.hrtime.bigint() / 1_000n)
}
