import type { Duplex } from 'node:stream'
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
   * What was upgraded over a corked socket goes in anew, to be `open`ed: that costs about as much as the upgrade did. The client has its
   * answer once it is open, and is not read before; who has gone is not opened.
   */
  async enterUpgraded(ws: WebSocket, socket: Duplex, open: () => void): Promise<void> {
    ws.pause()
    await this.enter()
    if (ws.readyState !== WebSocket.OPEN) return
    open()
    // engine.io opens in some microtasks: all of them run before the next tick.
    process.nextTick(() => socket.uncork())
    ws.resume()
  }

  private readonly turn = (): void => {
    this.waiting.shift()!()
    if (this.waiting.length > 0) setImmediate(this.turn)
  }
}
