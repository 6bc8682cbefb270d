import type { ServerResponse } from 'node:http'
import { type Dialect, encodeStreamFailure, type StreamFailure } from '../../core/llm/dialect.ts'
import type { Gateway } from '../../gateway/gateway.ts'
import type { RunBatch, RunReader, RunSink } from '../../gateway/run-types.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import { encodeComment } from '../../protocol/sse.ts'
import { BodyWriter } from '../body-writer.ts'
import { flowOf } from '../response-flow.ts'
import { encodeRaw } from '../run-encoding.ts'
import { roomBytes } from '../runs.ts'

/** Where in the log a client goes on. */
export interface Place {
  readonly run: string
  readonly after: string
  /** Bytes of what comes then that it has got already. */
  readonly skip: number
}

/** Who fills the stream. */
export interface ClientStreamOwner {
  /** Where the log goes on behind all that was delivered; null: nothing is logged. */
  place(): Place | null
  /** The client takes no more, and there is no log that it could get it from later. */
  hold(): void
  /** It does again. */
  go(): void
  /** It has been told all, or is gone. */
  clientDone(): void
}

export const heartbeat = Buffer.from(encodeComment('hb'))

/** What one client gets of a stream: straight from the server, and from the log once it has fallen behind. */
export class ClientStream implements RunSink {
  /** It is gone, or has been told all. */
  done = false
  private readonly response: ServerResponse
  private readonly dialect: Dialect
  private readonly gateway: Pick<Gateway, 'limits' | 'runs'>
  private readonly owner: ClientStreamOwner
  private writer: BodyWriter | null = null
  /** What came before the head could be sent, and how it is to end then. */
  private backlog: Buffer[] = []
  private ends: { readonly said: StreamFailure | null } | null = null
  /** It has not taken what it was given: what follows it gets from the log. */
  private behind: Place | null = null
  private skip = 0
  private reader: RunReader | null = null
  private opening = false
  private held = false
  /** Bytes that its socket has taken, and for how long that has been so while there were more. */
  private taken = 0
  private stalledSeconds = 0

  constructor(
    response: ServerResponse,
    dialect: Dialect,
    gateway: Pick<Gateway, 'limits' | 'runs'>,
    owner: ClientStreamOwner,
  ) {
    this.response = response
    this.dialect = dialect
    this.gateway = gateway
    this.owner = owner
  }

  /** The head was sent. */
  get isOpen(): boolean {
    return this.writer !== null
  }

  /** It gets everything from the log, its end too. */
  get isBehind(): boolean {
    return this.behind !== null
  }

  /** Sends the head, and with it what has come so far. */
  open(head: readonly string[], isEarly: boolean): void {
    const { response, backlog } = this
    const { socket } = response
    socket?.cork()
    response.writeHead(200, [...head])
    socket?.setNoDelay(true)
    response.flushHeaders()
    this.writer = new BodyWriter(response, this.gateway.limits.runCoalesceMs)
    this.backlog = []
    if (isEarly) this.writer.write(heartbeat)
    for (const piece of backlog) this.writer.write(piece)
    this.writer.flush()
    socket?.uncork()
    if (this.ends !== null) this.end(this.ends.said)
  }

  /** Whole blocks. */
  deliver(buffer: Buffer, from: number, to: number): void {
    if (this.done || this.behind !== null) return
    if (this.writer === null) this.backlog.push(Buffer.from(buffer.subarray(from, to)))
    else this.writer.write(buffer, from, to)
  }

  /** What was delivered is all that there is for now. */
  turned(): void {
    const { writer } = this
    if (writer === null || this.behind !== null) return
    writer.turned()
    if (writer.unsent <= this.gateway.limits.runReaderBytes || this.held) return
    writer.whenSent(this.drained)
    this.behind = this.owner.place()
    this.skip = this.behind?.skip ?? 0
    if (this.behind !== null) return
    this.held = true
    this.owner.hold()
  }

  /** Ends it; `said`: by an error of the dialect. */
  end(said: StreamFailure | null): void {
    if (this.done) return
    if (this.writer === null) {
      // The head is about to be sent.
      this.ends = { said }
      return
    }
    if (said !== null) this.writer.write(Buffer.from(encodeStreamFailure(this.dialect, said)))
    this.done = true
    this.writer.finish()
    this.owner.clientDone()
  }

  /** Ends an answer that nothing can be said in. */
  cut(): void {
    this.response.destroy()
  }

  /** The client has gone. */
  left(): void {
    this.done = true
    this.backlog = []
    this.writer?.discard()
    this.reader?.close()
    this.owner.clientDone()
  }

  /** Once a second: a client that takes nothing of what waits for it is dropped after a while. */
  watch(): void {
    const flow = flowOf(this.response)
    if (flow === null || this.done) return
    const taken = flow.bytesWritten - flow.writableLength
    if (flow.writableLength === 0 || taken !== this.taken) this.stalledSeconds = 0
    else if (++this.stalledSeconds * 1_000 >= this.gateway.limits.clientStallMs) this.cut()
    this.taken = taken
  }

  /** For a client that gets the stream from the server: from the log it gets its own. */
  beat(): void {
    if (this.behind === null) this.heartbeat()
  }

  // RunSink

  write(batch: RunBatch): boolean {
    const writer = this.writer!
    const bytes = encodeRaw(batch, this.dialect, false)
    const skip = Math.min(this.skip, bytes.length)
    this.skip -= skip
    writer.write(bytes, skip)
    writer.flush()
    if (writer.unsent <= roomBytes(this.gateway.limits)) return true
    writer.whenSent(this.drained)
    return false
  }

  heartbeat(): void {
    this.writer?.write(heartbeat)
    this.writer?.turned()
  }

  close(reason: 'ended' | 'away'): void {
    this.end(reason === 'away' ? { code: 'NOT_READY', message: 'the log of the run is away' } : null)
  }

  private readonly drained = (): void => {
    if (this.reader !== null) this.reader.drained()
    else if (this.behind !== null) void this.catchUp(this.behind)
    else if (this.held) {
      this.held = false
      this.owner.go()
    }
  }

  /** It gets from the log what it lacks, and from then on all else too. */
  private async catchUp({ run, after }: Place): Promise<void> {
    if (this.opening || this.done) return
    this.opening = true
    try {
      const opened = await this.gateway.runs.openReader(run, after, this)
      if (opened.verdict !== 'continuous')
        throw new EvenkeelError('GONE', 'what follows of this stream is lost')
      this.reader = opened.reader
      if (this.done) opened.reader.close()
    } catch (error) {
      const { code = 'INTERNAL', message } = error as Partial<EvenkeelError>
      this.end({ code, message: message ?? '' })
    }
  }
}
