import type { ClientEvents, Listener } from './types.ts'

type AnyListener = (value: never) => unknown

export class Listeners {
  readonly #byEvent = new Map<keyof ClientEvents, Set<AnyListener>>()

  /** Returns what removes the listener again. */
  add<Event extends keyof ClientEvents>(event: Event, listener: Listener<Event>): () => void {
    const listeners = this.#byEvent.get(event) ?? new Set()
    this.#byEvent.set(event, listeners.add(listener))
    return () => void listeners.delete(listener)
  }

  /** Returns a promise when a listener did: it resolves once all of them have settled. Never throws, never rejects. */
  call<Event extends keyof ClientEvents>(event: Event, value: ClientEvents[Event]): Promise<unknown> | null {
    const waits: Promise<unknown>[] = []
    for (const listener of [...(this.#byEvent.get(event) ?? [])] as Listener<Event>[]) {
      try {
        const result = listener(value)
        if (isThenable(result)) waits.push(Promise.resolve(result).catch(report))
      } catch (error) {
        report(error)
      }
    }
    return waits.length === 0 ? null : Promise.all(waits)
  }
}

/** An error of the application is the application's: it goes where errors go that nobody catches. */
function report(error: unknown): void {
  queueMicrotask(() => {
    throw error
  })
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function'
}
