/**
 * Lets one newcomer in at once, and those that come in the same turn of the event loop one by one, a turn each: between two of them
 * the gateway serves who is there already. When all clients of a gateway come back at once, others wait for one handshake at most.
 */
export class Turnstile {
  private readonly waiting: (() => void)[] = []
  private isTaken = false

  /** Resolves when it is their turn, in the order in which they came. */
  enter(): Promise<void> | void {
    if (!this.isTaken) {
      this.isTaken = true
      setImmediate(this.turn)
      return
    }
    return new Promise((resolve) => this.waiting.push(resolve))
  }

  private readonly turn = (): void => {
    const next = this.waiting.shift()
    this.isTaken = next !== undefined
    if (next === undefined) return
    setImmediate(this.turn)
    next()
  }
}
