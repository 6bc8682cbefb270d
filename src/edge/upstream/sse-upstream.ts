import type { Dispatcher } from 'undici'
import { EventBlocks, idOf } from '../../core/sse/event-blocks.ts'
import type { EventCursor, EventSplice } from '../../core/sse/event-cursor.ts'
import type { UpstreamConnection, UpstreamListener } from '../../gateway/upstream-connection.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { CloseCode } from '../../protocol/close-codes.ts'

/** A session's stream of events from its upstream; a message is one whole event. */
export class SseUpstream implements UpstreamConnection {
  readonly congested = false
  private readonly body: Dispatcher.ResponseData['body']
  private readonly entry: UpstreamEntry
  private readonly cursor: EventCursor
  private readonly splice: EventSplice
  private readonly blocks: EventBlocks
  private listener: UpstreamListener | null

  /** `since`: the upstream was asked for the events behind this id. */
  constructor(
    body: Dispatcher.ResponseData['body'],
    entry: UpstreamEntry,
    listener: UpstreamListener,
    cursor: EventCursor,
    since: string,
    eventBytes: number,
  ) {
    this.body = body
    this.entry = entry
    this.listener = listener
    this.cursor = cursor
    this.splice = cursor.follow(since)
    this.blocks = new EventBlocks(eventBytes)
    body.on('data', (chunk: Buffer) => this.received(chunk))
    body.on('end', () => this.ended())
    body.on('error', () => this.broken())
    body.pause()
  }

  /** Called when it is over, whoever ended it. */
  onEnd: () => void = () => {}

  /** A stream of events goes one way. */
  send(): void {}

  pause(): void {
    this.body.pause()
  }

  resume(): void {
    this.body.resume()
  }

  /** It can be left between any two events: the next one begins behind the last that was delivered. */
  settle(done: () => void): void {
    setImmediate(done)
  }

  close(): void {
    const { listener } = this
    this.terminate()
    if (listener !== null) setImmediate(() => listener.closed(CloseCode.normal, ''))
  }

  terminate(): void {
    if (this.listener === null) return
    this.listener = null
    this.body.destroy()
    this.onEnd()
  }

  private received(chunk: Buffer): void {
    let blocks: Uint8Array[]
    try {
      blocks = this.blocks.push(chunk)
    } catch {
      this.body.destroy()
      this.broken()
      return
    }
    for (const block of blocks) {
      const id = idOf(block)
      if (this.listener === null || !this.splice.isNew(id)) continue
      this.cursor.delivered(id)
      this.listener.message(bufferOf(block), true)
    }
  }

  /** The upstream has said all: also what is no whole event is the client's to judge. */
  private ended(): void {
    const rest = this.blocks.rest()
    if (rest.length > 0) this.listener?.message(bufferOf(rest), true)
    this.over(CloseCode.normal)
  }

  /** What is no whole event is dropped: a client that goes on elsewhere gets it there. */
  private broken(): void {
    if (this.listener !== null) this.entry.report('broken')
    this.over(CloseCode.abnormal)
  }

  private over(code: number): void {
    const { listener } = this
    if (listener === null) return
    this.listener = null
    this.onEnd()
    listener.closed(code, '')
  }
}

function bufferOf({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength)
}
