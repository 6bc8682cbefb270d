import type { DemoAction, DemoAnswer } from '../../../client/demo/words.ts'
import { type ErrorCode, EvenkeelError } from '../../protocol/errors.ts'
import type { DemoControl } from './pages.ts'

/** A gateway of the demo asks the demo itself, over the channel between the two processes. */

interface Asked {
  readonly ask: number
  readonly action: DemoAction
}

type Answered =
  | { readonly ask: number; readonly answer: DemoAnswer }
  | { readonly ask: number; readonly code: ErrorCode; readonly message: string }

interface Channel {
  send?(message: unknown): unknown
  on(event: 'message', listener: (message: unknown) => void): unknown
}

/** In the gateway's process. */
export class ControlCaller {
  private readonly channel: Channel
  private readonly waiting = new Map<number, PromiseWithResolvers<DemoAnswer>>()
  private last = 0

  constructor(channel: Channel) {
    this.channel = channel
    channel.on('message', (message) => this.answered(message as Answered))
  }

  /** Throws EvenkeelError. */
  call(action: DemoAction): Promise<DemoAnswer> {
    const waiting = Promise.withResolvers<DemoAnswer>()
    this.waiting.set(++this.last, waiting)
    this.channel.send?.({ ask: this.last, action } satisfies Asked)
    return waiting.promise
  }

  private answered(message: Answered): void {
    const waiting = this.waiting.get(message.ask)
    this.waiting.delete(message.ask)
    if ('answer' in message) waiting?.resolve(message.answer)
    else waiting?.reject(new EvenkeelError(message.code, message.message))
  }
}

/** In the demo's own process. */
export function answerControl(channel: Channel, control: DemoControl): void {
  channel.on('message', (message) => {
    const { ask, action } = message as Asked
    if (ask === undefined) return
    const send = (answer: Answered) => void channel.send?.(answer)
    control(action).then(
      (answer) => send({ ask, answer }),
      (error: unknown) => {
        const { code, message } =
          error instanceof EvenkeelError ? error : { code: 'INTERNAL' as const, message: String(error) }
        send({ ask, code, message })
      },
    )
  })
}
