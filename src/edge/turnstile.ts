import { WebSocket } from 'ws'

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

  /**
   * What was answered goes in anew, to be `open`ed: that costs about as much as the answer did. Until then the socket is not read; who
   * has gone is not opened.
   */
  async enterAnswered(ws: WebSocket, open: () => void): Promise<void> {
    ws.pause()
    await this.enter()
    if (ws.readyState !== WebSocket.OPEN) return
    open()
    // Reading begins in the next tick. engine.io listens after some microtasks: all of them run before that.
    ws.resume()
  }

  private readonly turn = (): void => {
    this.waiting.shift()!()
    if (this.waiting.length > 0) setImmediate(this.turn)
  }
}
