import type { Session } from '../types.ts'

export type Done = (error?: Error) => void
type Data = string | Uint8Array

interface Queued {
  readonly data: Data
  readonly done: Done | undefined
}

/**
 * Keeps what is sent while the client does not take it. `ws` applications send without asking, and a session ends when it is given
 * far more than its client reads.
 */
export class SendQueue {
  /** What the client has not made room for. 0 while it keeps up. */
  bytes = 0
  private readonly session: Session
  /** A message that the session refuses because it is too large. */
  private readonly tooLarge: (error: Error) => void
  private readonly emptied: () => void
  private queue: Queued[] = []
  /** The message that filled the session up; null while there is room. */
  private last: Queued | null = null
  private waiters: (() => void)[] = []

  constructor(session: Session, tooLarge: (error: Error) => void, emptied: () => void) {
    this.session = session
    this.tooLarge = tooLarge
    this.emptied = emptied
  }

  get isEmpty(): boolean {
    return this.last === null
  }

  push(data: Data, done: Done | undefined): void {
    const entry = { data, done }
    if (this.last === null) {
      this.write(entry)
    } else {
      this.queue.push(entry)
      this.bytes += sizeOf(data)
    }
  }

  /** Resolves when the client has made room for everything, or never will. */
  flushed(): Promise<void> {
    if (this.last === null) return Promise.resolve()
    return new Promise((resolve) => this.waiters.push(resolve))
  }

  /** Nothing more can be sent. */
  fail(error: Error): void {
    const dropped = this.last === null ? [] : [this.last, ...this.queue]
    this.last = null
    this.queue = []
    this.bytes = 0
    for (const { done } of dropped) later(done, error)
    this.wake()
  }

  private write(entry: Queued): void {
    let hasRoom: boolean
    try {
      hasRoom = this.session.send(entry.data)
    } catch (error) {
      later(entry.done, error as Error)
      this.tooLarge(error as Error)
      return
    }
    if (hasRoom) {
      later(entry.done)
      return
    }
    this.last = entry
    this.bytes += sizeOf(entry.data)
    void this.session.drained().then(() => {
      if (this.last === entry) this.goOn(entry)
    })
  }

  private goOn(entry: Queued): void {
    this.last = null
    this.bytes -= sizeOf(entry.data)
    later(entry.done)
    let sent = 0
    while (this.last === null && sent < this.queue.length) {
      const next = this.queue[sent++]!
      this.bytes -= sizeOf(next.data)
      this.write(next)
    }
    this.queue.splice(0, sent)
    if (this.last !== null) return
    this.wake()
    this.emptied()
  }

  private wake(): void {
    const { waiters } = this
    this.waiters = []
    for (const resolve of waiters) resolve()
  }
}

/** As `ws` does: never before `send` has returned. */
export function later(done: Done | undefined, error?: Error): void {
  if (done !== undefined) process.nextTick(done, error)
}

function sizeOf(data: Data): number {
  return typeof data === 'string' ? Buffer.byteLength(data) : data.length
}
