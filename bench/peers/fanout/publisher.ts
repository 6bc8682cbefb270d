import { type Child, failure } from '../../processes.ts'

export interface Pace {
  /** How often to publish, and how many messages at once. */
  ticks: number
  perSecond: number
  burst: number
}

export type PublishCommand = Pace & { firstSequence: number }

export type PublishReply = { published: number } | { error: string }

const patienceMs = 20_000

/** The benchmark's side of a process that publishes by itself once it is told how often. */
export class Publisher {
  /** Sequence of the last message. */
  last = 0
  readonly #child: Child

  constructor(child: Child) {
    this.#child = child
  }

  /** Resolves when all is published; whether it has arrived is for the subscribers to say. */
  async publish(pace: Pace): Promise<void> {
    const timeoutMs = (pace.ticks / pace.perSecond) * 1_000 + patienceMs
    const reply = this.#reply(timeoutMs)
    this.#child.process.send({ ...pace, firstSequence: this.last + 1 } satisfies PublishCommand)
    const answer = await reply
    if ('error' in answer) throw failure(this.#child, `could not publish: ${answer.error}`)
    this.last += answer.published
  }

  #reply(timeoutMs: number): Promise<PublishReply> {
    const { process } = this.#child
    return new Promise((resolve, reject) => {
      const settle = (act: () => void) => {
        clearTimeout(timer)
        process.off('message', onMessage)
        process.off('exit', onExit)
        act()
      }
      const onMessage = (message: unknown) => settle(() => resolve(message as PublishReply))
      const onExit = (code: number | null) =>
        settle(() => reject(failure(this.#child, `ended with code ${code}`)))
      const late = () => reject(failure(this.#child, `did not publish within ${timeoutMs} ms`))
      const timer = setTimeout(() => settle(late), timeoutMs)
      process.once('message', onMessage)
      process.once('exit', onExit)
    })
  }
}
