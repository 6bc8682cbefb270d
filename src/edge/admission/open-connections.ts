import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { Counts } from '../../core/limits/counts.ts'

/** How many connections are open, by what they count for. */
export class OpenConnections {
  private readonly open = new Counts<string>()
  /** What requests count for that have opened something. */
  private readonly counted = new WeakMap<IncomingMessage, string[]>()

  of(name: string): number {
    return this.open.of(name)
  }

  /** What the request has opened counts for these, beside what it counts for already, until `carrier` closes. */
  add(request: IncomingMessage, carrier: ServerResponse | Socket, names: readonly string[]): void {
    // One that has gone would not be heard to go.
    if (carrier.destroyed || names.length === 0) return
    for (const name of names) this.open.add(name)
    const { counted } = this
    const before = counted.get(request)
    if (before !== undefined) {
      before.push(...names)
      return
    }
    counted.set(request, [...names])
    // Nothing of it is left here where its session goes on: see `keep`.
    carrier.once('close', () => {
      this.remove(counted.get(request) ?? [])
      counted.delete(request)
    })
  }

  /** It counts until the function that is returned is called, whatever becomes of the carrier. */
  keep(request: IncomingMessage): () => void {
    const names = this.counted.get(request) ?? []
    this.counted.delete(request)
    return () => this.remove(names)
  }

  private remove(names: readonly string[]): void {
    for (const name of names) this.open.remove(name)
  }
}
