/**
 * Lets newcomers in one by one, in the order in which they came: one in each turn of the event loop, the first in the turn that follows.
 * Between two of them, and between what was read of one and its opening, the gateway serves who is there already: when all clients of a
 * gateway come back at once, others wait for one opening at most.
 */
export class Turnstile {
  private readonly waiting: (() => void)[] = []

  enter(): Promise<void> {
    return new Promise((resolve) => {
      // The first `setImmediate` is still of the turn that has read the request.
      if (this.waiting.push(resolve) === 1) setImmediate(() => setImmediate(this.turn))
    })
  }

  private readonly turn = (): void => {
    this.waiting.shift()!()
    if (this.waiting.length > 0) setImmediate(this.turn)
  }
}
