/** The gateway wants to hear after 64 KiB and 200 ms at the latest; half of it leaves time for the way. */
export const acknowledgeBytes = 32 * 1024
export const acknowledgeMs = 100

/** Counts the outputs of one session: what came, what is handled, what the gateway knows of that. */
export class Outputs {
  /** The last output that is handled. */
  handled: number
  /** Of outputs that are handled and not acknowledged. */
  unacknowledgedBytes = 0
  #received: number
  /** The last output of the present connection. It begins anew behind what was handled, so some come again. */
  #position: number
  #acknowledged: number

  /** `out`: the last output before the session's first. */
  constructor(out: number) {
    this.handled = out
    this.#received = out
    this.#position = out
    this.#acknowledged = out
  }

  /** The first output of the new connection is `out + 1`. */
  restart(out: number): void {
    this.#position = out
  }

  /** Counts an output that came. Returns false when it had come before. */
  receive(): boolean {
    this.#position++
    if (this.#position <= this.#received) return false
    this.#received = this.#position
    return true
  }

  /** Counts the next output as handled. */
  handle(bytes: number): void {
    this.handled++
    this.unacknowledgedBytes += bytes
  }

  get hasUnacknowledged(): boolean {
    return this.handled > this.#acknowledged
  }

  /** Number to be acknowledged now. */
  acknowledge(): number {
    this.#acknowledged = this.handled
    this.unacknowledgedBytes = 0
    return this.handled
  }
}
