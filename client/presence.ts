import { parsePresence, presenceChannel, presenceMs } from '../src/protocol/presence.ts'
import type { EvenkeelClient } from './client.ts'

export { presenceMs } from '../src/protocol/presence.ts'

export interface PresenceOptions {
  /** After each change. */
  changed?(members: ReadonlyMap<string, unknown>): void
}

/**
 * Who is in a channel, as their nodes say it (`createPresence` of `evenkeel/sdk`). The client's own session is among them once its node has let it enter.
 * Whoever was not heard of for 45 s is not there.
 */
export class Presence {
  readonly #members = new Map<string, unknown>()
  readonly #heardAt = new Map<string, number>()
  readonly #changed: (members: ReadonlyMap<string, unknown>) => void
  readonly #off: () => void
  readonly #timer: ReturnType<typeof setInterval>

  constructor(
    client: Pick<EvenkeelClient, 'on'>,
    channel: string,
    { changed = () => {} }: PresenceOptions = {},
  ) {
    this.#changed = changed
    const own = presenceChannel(channel)
    this.#off = client.on('channel', (message) => {
      if (message.channel === own) this.#hear(message.data)
    })
    this.#timer = setInterval(() => this.#expire(), presenceMs / 9)
  }

  /** What is said of each one, by the id of its session. */
  get members(): ReadonlyMap<string, unknown> {
    return this.#members
  }

  /** Hears nothing more. */
  close(): void {
    this.#off()
    clearInterval(this.#timer)
  }

  #hear(data: unknown): void {
    const word = parsePresence(data)
    if (word === null) return
    if ('leave' in word) this.#forget([word.leave])
    else this.#see('here' in word ? word.here : [word.enter])
  }

  #see(members: readonly { id: string; data: unknown }[]): void {
    let isNew = false
    for (const { id, data } of members) {
      isNew ||= JSON.stringify(this.#members.get(id)) !== JSON.stringify(data)
      this.#members.set(id, data)
      this.#heardAt.set(id, performance.now())
    }
    if (isNew) this.#changed(this.#members)
  }

  #expire(): void {
    const oldest = performance.now() - presenceMs
    this.#forget([...this.#heardAt].flatMap(([id, at]) => (at < oldest ? [id] : [])))
  }

  #forget(ids: readonly string[]): void {
    const gone = ids.filter((id) => this.#members.delete(id))
    for (const id of gone) this.#heardAt.delete(id)
    if (gone.length > 0) this.#changed(this.#members)
  }
}
