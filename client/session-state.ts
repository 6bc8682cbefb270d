import { type ClientHello, type ClientWelcome, invalidFrame } from '../src/protocol/client-frames.ts'
import { Outputs } from './outputs.ts'
import { Positions } from './positions.ts'
import type { SendOutcome } from './send-error.ts'
import type { SessionEvent } from './types.ts'

export interface LostItem<Item> {
  readonly item: Item
  readonly outcome: SendOutcome
}

export interface WelcomeEffects<Item> {
  readonly committed: Item[]
  readonly lost: LostItem<Item>[]
  readonly event: SessionEvent
}

/**
 * What a client knows of its session, without I/O and time: what is pending and what of it the gateway has, what came, who it is.
 * An item is a message; its number is that of its place, for messages are numbered by counting.
 */
export class SessionState<Item extends { readonly bytes: number }> {
  outputs = new Outputs(0)
  readonly positions = new Positions()
  pendingBytes = 0
  #identity: { session: string; token: string } | null = null
  /** Numbers `acked + 1` and up. */
  #items: Item[] = []
  #acked = 0
  /** The last message that was given to any connection: a node may have it, so its number is its own for ever. */
  #sent = 0
  /** The last message that was given to the present connection, or that its gateway had already. */
  #position = 0
  #asked: ClientHello = {}
  #expired = false

  get session(): string | null {
    return this.#identity?.session ?? null
  }

  get pending(): number {
    return this.#items.length
  }

  add(item: Item): void {
    this.#items.push(item)
    this.pendingBytes += item.bytes
  }

  /** The items that the present connection has to send now, in order. Each is given once. */
  takeUnsent(): Item[] {
    const unsent = this.#items.slice(this.#position - this.#acked)
    this.#position = this.#acked + this.#items.length
    this.#sent = this.#position
    return unsent
  }

  /** Removes what must not be sent because of its size. Only what has no number yet can go. */
  takeOversized(bytes: number): Item[] {
    const numbered = this.#sent - this.#acked
    const isOversized = (item: Item, index: number) => index >= numbered && item.bytes > bytes
    const oversized = this.#items.filter(isOversized)
    this.#items = this.#items.filter((item, index) => !isOversized(item, index))
    for (const item of oversized) this.pendingBytes -= item.bytes
    return oversized
  }

  /** The hello of a new connection; its welcome has to fit it. */
  hello(): ClientHello {
    this.#asked = {}
    if (this.#identity !== null) {
      this.#asked.resume = {
        ...this.#identity,
        out: this.outputs.handled,
        channels: this.positions.toObject(),
      }
    }
    return this.#asked
  }

  /** Throws BAD_REQUEST when the welcome does not fit the hello; then nothing has changed. */
  welcome(welcome: ClientWelcome): WelcomeEffects<Item> {
    this.#check(welcome)
    const { session, token, recovered } = welcome
    const committed = recovered === true ? this.#goOn(welcome) : []
    const lost = recovered === true ? [] : this.#begin(welcome)
    this.#identity = { session, token }
    return { committed, lost, event: this.#eventOf(welcome) }
  }

  /** Messages up to this number are committed; returns those that were not before. Throws BAD_REQUEST for what was never sent. */
  commit(count: number): Item[] {
    if (count > this.#sent) throw invalidFrame(`a: ${count} is committed, ${this.#sent} were sent`)
    const committed = this.#items.splice(0, Math.max(0, count - this.#acked))
    this.#acked = Math.max(this.#acked, count)
    for (const item of committed) this.pendingBytes -= item.bytes
    return committed
  }

  /** Gives the session up because it is not kept for so long. Returns what it has not committed. */
  expire(): LostItem<Item>[] {
    if (this.#identity === null) return []
    this.#expired = true
    return this.reset()
  }

  /** Forgets the session. */
  reset(): LostItem<Item>[] {
    const numbered = this.#sent - this.#acked
    const lost = this.#items.map<LostItem<Item>>((item, index) => ({
      item,
      outcome: index < numbered ? 'unknown' : 'unsent',
    }))
    this.#identity = null
    this.#items = []
    this.pendingBytes = 0
    this.#acked = 0
    this.#sent = 0
    this.#position = 0
    this.positions.clear()
    return lost
  }

  #goOn({ ack, last, out }: ClientWelcome): Item[] {
    this.outputs.restart(out)
    this.#position = last
    return this.commit(ack)
  }

  #begin({ recovered, last, out }: ClientWelcome): LostItem<Item>[] {
    const lost = recovered === false ? this.reset() : []
    this.#acked = last
    this.#sent = last
    this.#position = last
    this.outputs = new Outputs(out)
    return lost
  }

  #check({ session, recovered, last, out }: ClientWelcome): void {
    const { resume } = this.#asked
    if ((resume === undefined) !== (recovered === null))
      throw invalidFrame('welcome.recovered does not fit the hello')
    if (resume === undefined || recovered !== true) return
    if (session !== resume.session) throw invalidFrame('welcome.session is not the one of the hello')
    if (out !== resume.out) throw invalidFrame('welcome.out is not the one of the hello')
    if (last < this.#acked || last > this.#sent)
      throw invalidFrame(`welcome.last is ${last}, and it must be from ${this.#acked} to ${this.#sent}`)
  }

  #eventOf({ session, recovered, reason }: ClientWelcome): SessionEvent {
    if (!this.#expired) return { id: session, recovered, reason }
    this.#expired = false
    return { id: session, recovered: false, reason: 'expired' }
  }
}
