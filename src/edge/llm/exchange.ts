import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Dialect, encodeStreamFailure, isWhole, type StreamFailure } from '../../core/llm/dialect.ts'
import type { GenerationRequest } from '../../core/llm/request.ts'
import { mayAskAnother } from '../../core/llm/retry.ts'
import { failEvent } from '../../core/run/entry.ts'
import type { FailCode } from '../../core/run/events.ts'
import type { Gateway } from '../../gateway/gateway.ts'
import type { RelayedRun } from '../../gateway/relayed-run.ts'
import type { RelayListener, RelayStop, RunBatch, RunReader, RunSink } from '../../gateway/run-types.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import { encodeComment } from '../../protocol/sse.ts'
import { BodyWriter } from '../body-writer.ts'
import { cancelled, encodeRaw } from '../run-encoding.ts'
import { upstreamHeaders } from '../upstream/headers.ts'
import { failure, triesMax } from '../upstream/http-proxy.ts'
import { type AnswerListener, Asking, Drained, failureOf, type Question } from './asking.ts'
import type { LlmConnections } from './connections.ts'
import { Ending } from './ending.ts'
import { isEventStream, messageOf, plainHead, streamHead } from './heads.ts'
import { WholeBlocks } from './whole-blocks.ts'

export interface Generation {
  readonly pool: string
  readonly dialect: Dialect
  readonly request: GenerationRequest
  readonly body: Buffer
  /** Goes on when the client has gone. */
  readonly durable: boolean
  /** The client's credentials: whoever has them may resume the chat. */
  readonly owner: string
}

export interface ExchangeHost {
  readonly gateway: Gateway
  readonly connections: LlmConnections
  /** The run has begun and can be found. */
  started(run: RelayedRun, generation: Generation): void
  over(exchange: Exchange): void
}

const heartbeat = Buffer.from(encodeComment('hb'))
/** Of an answer that is no stream, but can only be told in one. */
const refusalBytesMost = 64 * 1024
/** An attached stream waits so long for its log. */
const logPatienceSeconds = 2

/**
 * `asking`: no server has answered. `plain`: its answer is no stream, and goes through as it is. `refused`: the same, behind a head that
 * promised a stream. `streaming`. `over`.
 */
type Phase = 'asking' | 'plain' | 'refused' | 'streaming' | 'over'

/** One request for a generation and its answer: passed on as it comes, logged as a run, ended in its dialect. */
export class Exchange implements AnswerListener, RelayListener, RunSink {
  private readonly host: ExchangeHost
  private readonly generation: Generation
  private readonly client: IncomingMessage
  private readonly response: ServerResponse
  private readonly blocks: WholeBlocks
  private readonly settled = Promise.withResolvers<void>()
  private readonly tried = new Set<UpstreamEntry>()
  private phase: Phase = 'asking'
  private asking: Asking | null = null
  private run: RelayedRun | null = null
  private logging = false
  /** A head was sent to the client, or is about to be: errors can only be told in the stream. */
  private hasHead = false
  /** How the stream is to be ended once its head was sent. */
  private ends: { readonly said: StreamFailure | null } | null = null
  private writer: BodyWriter | null = null
  /** What came before the head could be sent. */
  private backlog: Buffer[] = []
  /** The client is gone, or has been told all. */
  private clientDone = false
  /** The client has not taken what it was given: what follows it gets from the log. */
  private behind: { readonly after: string; skip: number } | null = null
  private reader: RunReader | null = null
  private opening = false
  private pausedBy: 'client' | 'log' | null = null
  private readonly ending = new Ending()
  private refusal: Buffer[] = []
  private pausedSeconds = 0
  private silentSeconds = 0
  private status = 0
  private refusalBytes = 0

  constructor(host: ExchangeHost, generation: Generation, client: IncomingMessage, response: ServerResponse) {
    this.host = host
    this.generation = generation
    this.client = client
    this.response = response
    this.blocks = new WholeBlocks(host.gateway.limits.llmEventBytes)
    response.once('close', () => this.clientLeft())
  }

  /** Resolves when nothing is to be told the client any more that an error could say. Throws what it is to be answered. */
  async begin(): Promise<void> {
    const { durable, request } = this.generation
    if (durable && request.streams && !(await this.startRun())) {
      this.finish()
      throw new EvenkeelError('NOT_READY', 'the log of runs is away, and X-Run-Mode: durable needs it')
    }
    if (this.phase === 'over') return
    this.ask(null)
    await this.settled.promise
  }

  /** Once a second. */
  tick(): void {
    const { runHeartbeatMs } = this.host.gateway.limits
    if (this.pausedBy === 'log' && ++this.pausedSeconds >= logPatienceSeconds) this.giveUpLog()
    if (++this.silentSeconds * 1_000 < runHeartbeatMs) return
    if (this.phase !== 'asking' && this.phase !== 'streaming') return
    // No reassurance about a server that does not live.
    if (this.asking?.entry.health === 'down') {
      this.asking.abort()
      this.lost(new Error('silent, and its probes fail'))
      return
    }
    this.silentSeconds = 0
    if (!this.generation.request.streams || this.clientDone) return
    if (this.writer === null) {
      if (!this.hasHead) void this.sendHead([])
    } else if (this.behind === null) this.say(heartbeat)
  }

  /** The gateway stops. */
  stop(): void {
    if (this.phase === 'over') return
    this.asking?.abort()
    if (this.phase === 'plain') this.cutClient()
    else if (!this.hasHead)
      this.refuse(new EvenkeelError('DRAINING', 'the gateway stops; send the request again'))
    else this.fail('PRODUCER_LOST', 'the gateway stops; send the request again', true)
  }

  // AnswerListener

  answered(status: number, statusText: string, headers: readonly string[]): void {
    this.silentSeconds = 0
    if (isEventStream(status, headers)) {
      this.phase = 'streaming'
      if (!this.hasHead) void this.sendHead(headers)
      return
    }
    this.status = status
    if (this.hasHead) {
      this.phase = 'refused'
      return
    }
    this.phase = 'plain'
    this.endRun()
    if (this.clientDone) return
    this.response.on('drain', () => this.asking?.resume())
    this.response.writeHead(status, statusText, plainHead(headers))
    this.settled.resolve()
  }

  data(buffer: Buffer, from: number, to: number): void {
    this.silentSeconds = 0
    if (this.phase === 'streaming') {
      if (this.blocks.isWhole(buffer, from, to)) this.passOn(buffer, from, to)
      else this.stream(buffer.subarray(from, to))
    } else if (this.phase === 'refused') {
      this.refusalBytes += to - from
      if (this.refusalBytes <= refusalBytesMost) this.refusal.push(Buffer.from(buffer.subarray(from, to)))
    } else if (!this.clientDone && !this.response.write(Buffer.from(buffer.subarray(from, to))))
      this.asking!.pause()
  }

  turned(): void {
    const { writer } = this
    if (writer === null || this.behind !== null) return
    writer.turned()
    if (writer.unsent > this.host.gateway.limits.runReaderBytes) this.fallBehind()
  }

  ended(): void {
    if (this.phase === 'streaming') this.streamEnded()
    else if (this.phase === 'refused') this.refusedInStream()
    else {
      this.finish()
      this.response.end()
    }
  }

  failed(error: Error): void {
    if (this.phase === 'asking' && !(error instanceof Drained)) this.ask(error)
    else this.lost(error)
  }

  // RelayListener

  stopped(reason: RelayStop): void {
    this.logging = false
    if (this.phase === 'over') return
    if (reason === 'lost') {
      // Pass on what nobody else can read; a client that is gone or behind gets nothing more from here.
      if (!this.clientDone && this.behind === null) return
      this.asking?.abort()
      this.fail('LOG_LOST', 'the log of the run is lost', true)
      return
    }
    this.asking?.abort()
    if (!this.hasHead) this.refuse(new EvenkeelError('GONE', cancelled.message))
    else if (reason === 'full')
      this.endInStream({ code: 'TOO_LARGE', message: 'the answer is longer than a run may be' })
    else this.endInStream(cancelled)
  }

  logged(): void {
    if (this.pausedBy !== 'log') return
    if (this.run!.unlogged > this.host.gateway.limits.runUnackedBytes / 2) return
    this.pausedBy = null
    this.asking?.resume()
  }

  // RunSink: what a client that was behind gets from the log.

  write(batch: RunBatch): boolean {
    const { behind, writer } = this
    if (behind === null || writer === null) return true
    const bytes = encodeRaw(batch, this.generation.dialect, false)
    const skip = Math.min(behind.skip, bytes.length)
    behind.skip -= skip
    writer.write(skip === 0 ? bytes : bytes.subarray(skip))
    writer.turned()
    return writer.unsent <= this.host.gateway.limits.runReaderBytes
  }

  heartbeat(): void {
    this.say(heartbeat)
  }

  close(reason: 'ended' | 'away'): void {
    this.endClient(reason === 'away' ? { code: 'NOT_READY', message: 'the log of the run is away' } : null)
  }

  // Inside.

  /** Asks the next server, or gives up with the error. */
  private ask(error: Error | null): void {
    const { host, generation, tried } = this
    const mayAsk =
      error === null || (mayAskAnother(failureOf(error), generation.dialect) && tried.size < triesMax)
    const { pool, request } = generation
    const entry = mayAsk
      ? (host.gateway.chooseForRequest(pool, request.key, tried) as UpstreamEntry | null)
      : null
    if (entry === null) {
      this.refuse(
        error === null
          ? new EvenkeelError('NO_NODE', 'no server can take the request now; try again later')
          : failure(error),
      )
      return
    }
    tried.add(entry)
    const { connections, gateway } = host
    this.asking = new Asking(entry, this.question(entry), connections, gateway.limits, this)
  }

  private question(entry: UpstreamEntry): Question {
    const { client, generation } = this
    const drop = (name: string) =>
      name === 'expect' ||
      name === 'content-length' ||
      name === 'x-run-mode' ||
      // A compressed stream could not be divided.
      (name === 'accept-encoding' && generation.request.streams)
    return {
      path: client.url!,
      headers: upstreamHeaders(client, entry.upstream.url, drop),
      body: generation.body,
      // An application may have begun something before it was lost, and that is not to be asked for twice.
      reuse: generation.dialect !== 'ai-sdk',
    }
  }

  /** False: nothing can be logged. */
  private async startRun(): Promise<boolean> {
    const { host, generation } = this
    const { pool, dialect } = generation
    this.run = host.gateway.runs.relay({ pool, format: dialect, listener: this })
    this.logging = await this.run.begun
    if (this.logging) host.started(this.run, generation)
    return this.logging
  }

  private async sendHead(headers: readonly string[]): Promise<void> {
    const { response, client } = this
    this.hasHead = true
    if (this.run === null) await this.startRun()
    if (this.clientDone || this.writer !== null || response.headersSent) return
    const run = this.logging ? this.run!.run : null
    const { socket } = response
    socket?.cork()
    response.writeHead(200, streamHead(headers, client, run))
    socket?.setNoDelay(true)
    response.flushHeaders()
    this.writer = new BodyWriter(response, this.host.gateway.limits.runCoalesceMs)
    socket?.on('drain', this.drained)
    const { backlog } = this
    this.backlog = []
    if (headers.length === 0) this.writer.write(heartbeat)
    for (const piece of backlog) this.writer.write(piece)
    this.writer.flush()
    socket?.uncork()
    this.settled.resolve()
    if (this.ends !== null) this.endClient(this.ends.said)
  }

  private stream(chunk: Buffer): void {
    let whole: Buffer | null
    try {
      whole = this.blocks.push(chunk)
    } catch {
      this.asking!.abort()
      this.fail('TOO_LARGE', 'an event of the stream is too large', false)
      return
    }
    if (whole !== null) this.passOn(whole, 0, whole.length)
  }

  /** Whole blocks. */
  private passOn(buffer: Buffer, from: number, to: number): void {
    this.ending.add(buffer, from, to)
    this.log(buffer, from, to)
    this.deliver(buffer, from, to)
  }

  private log(buffer: Buffer, from: number, to: number): void {
    const { run } = this
    if (run === null) return
    run.push(buffer, from, to)
    if (run.unlogged <= this.host.gateway.limits.runUnackedBytes || this.pausedBy !== null) return
    this.pausedBy = 'log'
    this.pausedSeconds = 0
    this.asking!.pause()
  }

  private deliver(buffer: Buffer, from: number, to: number): void {
    if (this.clientDone || this.behind !== null) return
    if (this.writer === null) this.backlog.push(Buffer.from(buffer.subarray(from, to)))
    else this.writer.write(buffer, from, to)
  }

  /** Who reads here is not to wait for a log that is away. */
  private giveUpLog(): void {
    if (this.generation.durable || this.behind !== null) return
    this.logging = false
    this.pausedBy = null
    this.run!.abandon()
    this.asking?.resume()
  }

  private say(bytes: Buffer): void {
    this.writer?.write(bytes)
    this.writer?.turned()
  }

  private fallBehind(): void {
    this.writer!.flush()
    if (this.logging) this.behind = this.run!.position()
    else {
      this.pausedBy = 'client'
      this.asking!.pause()
    }
  }

  private readonly drained = (): void => {
    if (this.reader !== null) this.reader.drained()
    else if (this.behind !== null) void this.catchUp()
    else if (this.pausedBy === 'client') {
      this.pausedBy = null
      this.asking?.resume()
    }
  }

  /** The client gets from the log what it lacks, and from then on all else too. */
  private async catchUp(): Promise<void> {
    if (this.opening || this.clientDone) return
    this.opening = true
    try {
      const opened = await this.host.gateway.runs.openReader(this.run!.run, this.behind!.after, this)
      if (opened.verdict !== 'continuous')
        throw new EvenkeelError('GONE', 'what follows of this stream is lost')
      this.reader = opened.reader
      if (this.clientDone) opened.reader.close()
    } catch (error) {
      const { code = 'INTERNAL', message } = error as Partial<EvenkeelError>
      this.endClient({ code, message: message ?? '' })
    }
  }

  private streamEnded(): void {
    const rest = this.blocks.rest()
    this.ending.add(rest)
    if (!isWhole(this.generation.dialect, this.ending.toString())) {
      this.lost(new Error('ended before it was whole'))
      return
    }
    if (rest.length > 0) {
      this.log(rest, 0, rest.length)
      this.deliver(rest, 0, rest.length)
      this.turned()
    }
    this.run?.end({ type: 'end', reason: 'complete' })
    this.finish()
    if (this.behind === null) this.endClient(null)
  }

  /** The answer is cut. */
  private lost(error: Error): void {
    if (this.phase === 'plain') {
      this.finish()
      this.cutClient()
    } else if (!this.hasHead) this.refuse(failure(error))
    else if (error instanceof Drained)
      this.fail('PRODUCER_LOST', 'the server is drained; send the request again', true)
    else this.fail('PRODUCER_LOST', 'the server was lost in the middle of its answer', true)
  }

  /** There is no answer. */
  private refuse(error: EvenkeelError): void {
    if (this.hasHead) {
      this.fail('PRODUCER_LOST', error.message, true)
      return
    }
    this.run?.end(failEvent('PRODUCER_LOST', error.message, true))
    this.finish()
    this.settled.reject(error)
  }

  private refusedInStream(): void {
    const said = messageOf(Buffer.concat(this.refusal).toString())
    this.fail('HANDLER_FAILED', said ?? `the server answered with status ${this.status}`, false)
  }

  private fail(code: FailCode, message: string, retryable: boolean): void {
    this.run?.end(failEvent(code, message, retryable))
    this.endInStream({ code, message })
  }

  /** Who is behind gets it from the log. */
  private endInStream(said: StreamFailure): void {
    this.finish()
    if (this.behind === null || !this.run!.isLogged) this.endClient(said)
  }

  private endClient(said: StreamFailure | null): void {
    if (this.clientDone) return
    if (this.writer === null) {
      // The head is about to be sent.
      this.ends = { said }
      return
    }
    if (said !== null) this.writer.write(Buffer.from(encodeStreamFailure(this.generation.dialect, said)))
    this.clientDone = true
    this.response.socket?.off('drain', this.drained)
    this.writer.finish()
    this.settled.resolve()
  }

  private cutClient(): void {
    this.clientDone = true
    this.response.destroy()
    this.settled.resolve()
  }

  private clientLeft(): void {
    const wasDone = this.clientDone
    this.clientDone = true
    this.backlog = []
    this.writer?.discard()
    this.reader?.close()
    this.settled.resolve()
    if (wasDone || this.phase === 'over') return
    if (this.generation.durable && this.phase !== 'plain' && this.logging) {
      if (this.pausedBy === 'client') this.asking?.resume()
      return
    }
    this.asking?.abort()
    this.run?.end({ type: 'end', reason: 'cancelled' })
    this.finish()
  }

  /** A durable run whose answer is no stream. */
  private endRun(): void {
    this.run?.end({ type: 'end', reason: 'complete' })
    this.logging = false
  }

  private finish(): void {
    if (this.phase === 'over') return
    this.phase = 'over'
    this.host.over(this)
  }
}
