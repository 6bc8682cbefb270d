import type { Position } from '../../protocol/position.ts'
import type { Weighed } from './recent.ts'
import { answers, behind, type Found, nowhere } from './replay.ts'

/**
 * `deliver` it now; `restart`: deliver it, and then tell of a gap; `known`: members have it, or it is too old; `held`: it waits
 * for an answer; `read`: the same, and the history must be read first.
 */
export type Arrival = 'deliver' | 'restart' | 'known' | 'held' | 'read'

export type OrderStep<M> =
  | { readonly do: 'deliver'; readonly messages: readonly M[] }
  /** Members may have missed something; what they have got ends at `last`. */
  | { readonly do: 'gap'; readonly last: Position }
  /** Clients that have come back can be served: members have got everything up to `last`. */
  | { readonly do: 'settle'; readonly last: Position }

/** What may wait for an answer; the rest is read again. */
const heldMessages = 1_000
const heldBytesMax = 256 * 1024

/**
 * The order in which the members of a channel with history get its messages: that of the offsets, each once. Where one is missing, or
 * may be, live messages are held until the history has been read. What the history does not know any more is a gap.
 *
 * The history is the truth: what came live before it was asked and is not in it is dropped, or one forged message would shut
 * out all that follow. What the history and the subscription say comes over two connections, and one of them may be dead without
 * anybody knowing yet; offsets of one epoch can be compared all the same, epochs cannot.
 */
export class ChannelOrder<M extends Weighed> {
  /** The end of what members have got; null: not known. */
  last: Position | null = null
  /** The history must be read, from `last` on. */
  due = true
  /** null: nothing holds the live messages back. */
  private held: M[] | null = []
  private heldBytes = 0
  /** Messages were thrown away that came after the held ones. */
  private overflowed = false
  /** Held messages that came before the history was asked. */
  private confirmable = 0
  /** Members have moved on since the history was asked. */
  private moved = false
  /** The subscription was interrupted, and the history has not been asked since. */
  private interruption = true
  /** The history has told of an epoch that the subscription has not shown yet. */
  private ahead = false
  /** Members were told that nothing is known. */
  private blind = false

  receive(message: M): Arrival {
    const { position } = message
    const { last } = this
    if (last === null && this.held === null) {
      this.last = position
      this.moved = true
      this.blind = false
      this.due = false
      return 'restart'
    }
    const place = last === null ? 'ahead' : this.follow(last, position)
    // One that is ahead may be forged.
    if (position.epoch === last?.epoch && place !== 'ahead') this.ahead = false
    if (place === 'known') return 'known'
    if (this.held !== null) {
      this.hold(message)
      return 'held'
    }
    if (place === 'next') {
      this.last = position
      this.moved = true
      return 'deliver'
    }
    this.held = []
    this.hold(message)
    this.due = true
    return 'read'
  }

  /** The subscription was interrupted and is live again. */
  interrupted(): void {
    this.held ??= []
    this.due = true
    this.interruption = true
  }

  /** The history is being asked: from here on `answered` or `failed` follows. */
  asked(): void {
    this.due = false
    this.moved = false
    this.confirmable = this.held?.length ?? 0
  }

  answered(found: Found<M>): OrderStep<M>[] {
    const steps: OrderStep<M>[] = []
    if (this.last === null) this.begin(found.head, steps)
    else if (this.isStale(this.last, found)) this.due ||= this.held !== null
    else if (this.isConfirmed(found.head)) this.last = before(this.held![0]!.position)
    else if (this.held !== null) this.fill(this.last, found, steps)
    else this.catchUp(this.last, found, steps)
    steps.push({ do: 'settle', last: this.last! })
    // What made another read necessary came after this one was begun.
    if (this.held !== null && !this.due) this.release(this.held, found.head, steps)
    return steps
  }

  /** The history cannot be read. What is held goes on waiting, as long as there is room and it is known what it follows. */
  failed(): OrderStep<M>[] {
    const { held, last } = this
    this.due = held !== null || last === null
    if (held === null || (last !== null && !this.overflowed)) return []
    this.letGo()
    this.blind = last === null
    const messages: M[] = []
    for (const message of held) {
      if (this.last !== null && this.follow(this.last, message.position) === 'known') continue
      messages.push(message)
      this.last = message.position
    }
    this.due = this.last === null
    if (this.last === null) return []
    this.blind = false
    return [
      { do: 'deliver', messages },
      { do: 'gap', last: this.last },
    ]
  }

  private begin(head: Position | null, steps: OrderStep<M>[]): void {
    // Whoever joined before a message came gets it, though the head may be beyond it by now.
    const first = this.held?.find(({ position }) => isUpTo(head, position))
    this.last = first === undefined ? (head ?? nowhere) : before(first.position)
    this.ahead = first === undefined && head !== null
    if (!this.due) this.interruption = false
    if (this.blind) steps.push({ do: 'gap', last: this.last })
    this.blind = false
  }

  /** What is held is the begin of the history that there is now, and nothing was lost on the way to it. */
  private isConfirmed(head: Position | null): boolean {
    const first = this.held?.[0]?.position
    return this.ahead && !this.interruption && first?.offset === 1 && first.epoch === head?.epoch
  }

  /** Asked before the members came to where they are, or for others alone. */
  private isStale(last: Position, found: Found<M>): boolean {
    return (this.moved && !isUpTo(found.head, last)) || !answers(last, found)
  }

  private fill(last: Position, { head, messages }: Found<M>, steps: OrderStep<M>[]): void {
    const found = head === null ? { messages: [], continuous: false } : behind(last, { head, messages })
    if (found.messages.length > 0) steps.push({ do: 'deliver', messages: found.messages })
    this.last = head ?? nowhere
    if (!found.continuous) steps.push({ do: 'gap', last: this.last! })
    if (this.last.epoch !== last.epoch) this.ahead ||= head !== null
    if (!this.due) this.interruption = false
  }

  /** Nothing is held back, and yet the history may know more: messages that are on their way. */
  private catchUp(last: Position, { head, messages }: Found<M>, steps: OrderStep<M>[]): void {
    if (head === null || head.epoch !== last.epoch) return
    const found = behind(last, { head, messages })
    if (!found.continuous || found.messages.length === 0) return
    steps.push({ do: 'deliver', messages: found.messages })
    this.last = head
  }

  /** What was held follows, as far as it is known what is between it and the end. */
  private release(held: readonly M[], head: Position | null, steps: OrderStep<M>[]): void {
    const { overflowed } = this
    this.letGo()
    const messages: M[] = []
    let refuted = false
    let index = 0
    for (; index < held.length; index++) {
      const message = held[index]!
      const { position } = message
      const last = this.last!
      const place = this.follow(last, position)
      if (place === 'known') continue
      if (index < this.confirmable && !isUpTo(head, position)) {
        refuted = true
        continue
      }
      if (place === 'ahead' || (position.epoch !== last.epoch && last !== nowhere)) break
      messages.push(message)
      this.last = position
    }
    if (messages.length > 0) steps.push({ do: 'deliver', messages })
    if (refuted && !steps.some((step) => step.do === 'gap')) steps.push({ do: 'gap', last: this.last! })
    if (index === held.length && !overflowed) return
    this.held = []
    this.due = true
    for (const message of held.slice(index)) this.hold(message)
  }

  /**
   * A history that begins anew follows the one before it: whatever could have been lost between the two would have interrupted the
   * subscription.
   */
  private follow(last: Position, { epoch, offset }: Position): 'next' | 'known' | 'ahead' {
    if (epoch !== last.epoch) return offset === 1 && !this.ahead ? 'next' : 'ahead'
    if (offset <= last.offset) return 'known'
    return offset === last.offset + 1 ? 'next' : 'ahead'
  }

  private hold(message: M): void {
    const bytes = message.payload.length
    const isFull =
      this.held!.length >= heldMessages || (this.heldBytes > 0 && this.heldBytes + bytes > heldBytesMax)
    // The later ones must not stay: what lies between would be taken for missing.
    if (isFull || this.overflowed) {
      this.overflowed = true
      return
    }
    this.held!.push(message)
    this.heldBytes += bytes
  }

  private letGo(): void {
    this.held = null
    this.heldBytes = 0
    this.overflowed = false
  }
}

/** True when a history that ends at `head` holds the position, or held it once. */
function isUpTo(head: Position | null, { epoch, offset }: Position): boolean {
  return epoch === head?.epoch && offset <= head.offset
}

function before({ epoch, offset }: Position): Position {
  return { epoch, offset: offset - 1 }
}
