import type { Position } from '../../protocol/position.ts'
import type { Placed } from './replay.ts'

export interface Weighed extends Placed {
  readonly position: Position
  readonly payload: { readonly length: number }
}

/** What a message costs besides its payload. */
const overheadBytes = 512

/** The newest messages of a channel's history, without a hole, bounded by number and by bytes. */
export class RecentMessages<M extends Weighed> {
  private readonly size: number
  private readonly bytesMax: number
  private messages: M[] = []
  private bytes = 0

  constructor(size: number, bytesMax: number) {
    this.size = size
    this.bytesMax = bytesMax
  }

  get length(): number {
    return this.messages.length
  }

  endsAt({ epoch, offset }: Position): boolean {
    const last = this.messages.at(-1)?.position
    return last?.epoch === epoch && last.offset === offset
  }

  /** Forgets what came before when the message does not follow it. */
  push(message: M): void {
    const last = this.messages.at(-1)?.position
    const { epoch, offset } = message.position
    if (last !== undefined && (last.epoch !== epoch || last.offset + 1 !== offset)) this.clear()
    this.messages.push(message)
    this.bytes += weight(message)
    while (this.messages.length > this.size || this.bytes > this.bytesMax)
      this.bytes -= weight(this.messages.shift()!)
  }

  /** Adds what comes before the oldest one. Returns false, and adds nothing, when there is no room. */
  unshift(message: M): boolean {
    if (this.messages.length >= this.size || this.bytes + weight(message) > this.bytesMax) return false
    this.messages.unshift(message)
    this.bytes += weight(message)
    return true
  }

  /** What follows the position; null when it is not all here. */
  behind({ epoch, offset }: Position): readonly M[] | null {
    const first = this.messages[0]?.position
    if (first === undefined || first.epoch !== epoch) return null
    const from = offset + 1 - first.offset
    return from < 0 || from > this.messages.length ? null : this.messages.slice(from)
  }

  clear(): void {
    this.messages = []
    this.bytes = 0
  }
}

function weight({ payload }: Weighed): number {
  return payload.length + overheadBytes
}
