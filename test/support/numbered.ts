import type { SessionHandlers } from 'evenkeel/sdk'

/**
 * An application whose answers show what became of each message. Clients send 1, 2, 3, … and the state counts them, so that
 * `count` is `n` as long as every message took effect once and in order.
 */
export interface Reply {
  n: number
  count: number
  node: string
  term: number
  redelivered: boolean
}

export interface NumberedState {
  [key: string]: number
  count: number
}

export function answer(
  node: string,
  term: number,
  redelivered: boolean,
  state: NumberedState | undefined,
  data: string,
): { state: NumberedState; reply: string } {
  const count = (state?.count ?? 0) + 1
  const reply: Reply = { n: Number(data), count, node, term, redelivered }
  return { state: { count }, reply: JSON.stringify(reply) }
}

/** Where a handler can be made to wait. `sent`: its output has left, its commit has not. */
export type Point = 'open' | 'message' | 'sent' | 'close'

export interface Step {
  point: Point
  session: string
  n?: number
  redelivered?: boolean
  recovered?: boolean
  cause?: string
}

/** Lets handlers through, or not. */
export class Gate {
  private readonly shut = new Map<Point, PromiseWithResolvers<void>>()

  block(point: Point): void {
    if (!this.shut.has(point)) this.shut.set(point, Promise.withResolvers())
  }

  release(point: Point): void {
    this.shut.get(point)?.resolve()
    this.shut.delete(point)
  }

  async pass(point: Point): Promise<void> {
    await this.shut.get(point)?.promise
  }
}

export function numberedHandlers(
  node: string,
  gate: Gate,
  report: (step: Step) => void,
): SessionHandlers<NumberedState> {
  return {
    open({ id, recovered }) {
      report({ point: 'open', session: id, recovered })
      return gate.pass('open')
    },
    async message(session, data, { redelivered }) {
      report({ point: 'message', session: session.id, n: Number(data), redelivered })
      await gate.pass('message')
      const { state, reply } = answer(node, session.term, redelivered, session.state, String(data))
      session.send(reply)
      report({ point: 'sent', session: session.id, n: Number(data) })
      await gate.pass('sent')
      session.state = state
    },
    close({ id }, { cause }) {
      report({ point: 'close', session: id, cause })
      return gate.pass('close')
    },
  }
}
