/** Nobody is sent away for longer. */
const longestMs = 60_000

/**
 * When those who were refused shall come back: one after the other, at the rate at which they can be taken. All of them told the same
 * time would come back as one.
 */
export class ReturnSlots {
  private readonly perSecond: number
  private nextAt = Number.NEGATIVE_INFINITY

  constructor(perSecond: number) {
    this.perSecond = perSecond
  }

  /** Milliseconds from now. `random`, 0 to 1, blurs it by up to a second, in which those who are told whole seconds are spread. */
  take(now: number, random: number): number {
    const at = Math.max(now, Math.min(this.nextAt, now + longestMs))
    this.nextAt = at + 1000 / this.perSecond
    return at - now + random * 1000
  }
}
