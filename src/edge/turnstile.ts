import type { Duplex } from 'node:stream'
import { WebSocket } from 'ws'
import type { Turn } from '../gateway/turn.ts'

/**
 * Lets newcomers in one by one, in the order in which they came: one in each turn of the event loop, the first in the turn that follows.
 * Between two of them, and between what was read of one and its opening, the gateway serves who is there already: when all clients of a
 * gateway come back at once, others wait for one piece of an opening at most.
 */
export class Turnstile {
  private readonly turn: Turn
  private readonly waiting: (() => void)[] = []

  constructor(turn: Turn) {
    this.turn = turn
  }

  enter(): Promise<void> {
    return new Promise((resolve) => {
      if (this.waiting.push(resolve) === 1) this.turn.next(this.pass)
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
    // What is opened may come here itself for another part of its work: engine.io does so in some microtasks.
    await new Promise<void>((resolve) => process.nextTick(resolve))
    await this.enter()
    socket.uncork()
    ws.resume()
  }

  private readonly pass = (): void => {
    this.waiting.shift()!()
    if (this.waiting.length > 0) this.turn.next(this.pass)
  }
}
