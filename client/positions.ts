import { type ChannelVerdict, helloChannels } from '../src/protocol/client-frames.ts'

/**
 * The last position seen of each channel. No frame says that the session has left a channel, so what was quiet
 * for longest goes first when there are more than a hello may name.
 */
export class Positions {
  readonly #byChannel = new Map<string, string | null>()

  see(channel: string, position: string | null): void {
    this.#byChannel.delete(channel)
    this.#byChannel.set(channel, position)
    if (this.#byChannel.size <= helloChannels) return
    const [oldest] = this.#byChannel.keys()
    this.#byChannel.delete(oldest!)
  }

  judge({ channel, verdict, position }: ChannelVerdict): void {
    // What is to be made up for comes after this verdict, and is not seen yet.
    const known = verdict === 'continuous' ? this.#byChannel.get(channel) : undefined
    this.see(channel, known === undefined ? position : known)
  }

  clear(): void {
    this.#byChannel.clear()
  }

  toObject(): Record<string, string | null> {
    return Object.fromEntries(this.#byChannel)
  }
}
