import type { EvenkeelClient } from './client.ts'
import { locks } from './locks.ts'
import { type PlacedRunEvent, type Run, windowBytes } from './run.ts'
import { RunError } from './run-error.ts'
import type { SendError } from './send-error.ts'
import type { HostWord, SharedRunError, TabWord, Way } from './shared-words.ts'
import type { ClientEvents } from './types.ts'

const events = ['message', 'channel', 'verdict', 'session', 'disconnect', 'close'] as const

/** Has the client, and lets tabs use it. */
export class SharedHost {
  readonly #client: EvenkeelClient
  readonly #tabs = new Set<HostedTab>()

  constructor(client: EvenkeelClient) {
    this.#client = client
    for (const event of events) {
      client.on(event, (value) => {
        for (const tab of this.#tabs) tab.hears(event, value)
      })
    }
  }

  get tabs(): number {
    return this.#tabs.size
  }

  /** Tabs hear nothing more: the client goes, and another one takes over. */
  leave(): void {
    this.#tabs.clear()
  }

  /** A tab that says its words to what is returned. */
  add(way: Way<HostWord>, gone: () => void = () => {}): (word: TabWord) => void {
    const tab = new HostedTab(this.#client, way)
    const end = () => {
      if (!this.#tabs.delete(tab)) return
      tab.close()
      gone()
    }
    return (word) => {
      if (word.is === 'open') {
        this.#tabs.add(tab)
        tab.tellState()
        // Granted when the tab is gone, however it went.
        void locks()?.request(word.lock, {}, async () => end())
      } else if (word.is === 'bye') end()
      else tab.take(word)
    }
  }
}

/** What one tab has under way. */
class HostedTab {
  readonly #client: EvenkeelClient
  readonly #way: Way<HostWord>
  readonly #readings = new Map<number, Reading>()

  constructor(client: EvenkeelClient, way: Way<HostWord>) {
    this.#client = client
    this.#way = way
  }

  hears<Event extends keyof ClientEvents>(event: Event, value: ClientEvents[Event]): void {
    // The end is the last thing that a tab hears; of anything else it hears when it is so.
    if (event !== 'close') this.tellState()
    this.#way.post({ is: 'event', event, value } as HostWord)
    if (event === 'close') this.tellState()
  }

  tellState(): void {
    const { state, session } = this.#client
    this.#way.post({ is: 'state', state, session })
  }

  take(word: Exclude<TabWord, { is: 'open' | 'bye' }>): void {
    if (word.is === 'send') this.#send(word.id, word.data)
    else if (word.is === 'run') this.#run(word)
    else if (word.is === 'grant') this.#readings.get(word.id)?.grant(word.bytes)
    else if (word.is === 'cancel') this.#readings.get(word.id)?.run.cancel()
    else this.#readings.get(word.id)?.stop()
  }

  close(): void {
    for (const reading of this.#readings.values()) reading.stop()
  }

  #send(id: number, data: string | Uint8Array): void {
    this.#client.send(data).then(
      () => this.#way.post({ is: 'sent', id, error: null }),
      ({ code, message, outcome }: SendError) =>
        this.#way.post({ is: 'sent', id, error: { code: code as 'GONE', message, outcome } }),
    )
  }

  #run({ id, run, after, name, body, options }: TabWord & { is: 'run' }): void {
    const own = run === null ? this.#client.run(name, body, options) : this.#client.attach(run, after)
    const reading = new Reading(own, (event) => {
      const bytes = JSON.stringify(event).length
      this.#way.post({ is: 'run-event', id, event, bytes })
      return bytes
    })
    this.#readings.set(id, reading)
    void reading.read().then((error) => {
      this.#readings.delete(id)
      if (error !== undefined) this.#way.post({ is: 'run-end', id, error })
    })
  }
}

/** Reads a run for a tab, and no faster than the tab does. */
class Reading {
  readonly run: Run
  readonly #give: (event: PlacedRunEvent) => number
  #credit = windowBytes
  #stopped = false
  #wake = () => {}

  constructor(run: Run, give: (event: PlacedRunEvent) => number) {
    this.run = run
    this.#give = give
  }

  grant(bytes: number): void {
    this.#credit += bytes
    this.#wake()
  }

  stop(): void {
    this.#stopped = true
    this.#wake()
  }

  /** Resolves with how it ended; undefined: the tab wants no more. */
  async read(): Promise<SharedRunError | null | undefined> {
    try {
      for await (const event of this.run) {
        if (this.#stopped) return undefined
        this.#credit -= this.#give(event)
        while (this.#credit <= 0 && !this.#stopped) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve
          })
        }
      }
      return null
    } catch (error) {
      if (!(error instanceof RunError)) throw error
      const { code, message, retryable, retryAfterMs } = error
      return { code, message, retryable, retryAfterMs }
    }
  }
}
