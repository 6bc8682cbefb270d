import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Dialect, isWhole, type StreamFailure } from '../../core/llm/dialect.ts'
import type { GenerationRequest } from '../../core/llm/request.ts'
import { mayAskAnother } from '../../core/llm/retry.ts'
import { failEvent } from '../../core/run/entry.ts'
import type { FailCode } from '../../core/run/events.ts'
import type { Gateway } from '../../gateway/gateway.ts'
import type { RelayedRun } from '../../gateway/relayed-run.ts'
import type { RelayListener, RelayStop } from '../../gateway/run-types.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import { shownBy } from '../request-meta.ts'
import { cancelled } from '../run-encoding.ts'
import { upstreamHeaders } from '../upstream/headers.ts'
import { failure, triesMax } from '../upstream/http-proxy.ts'
import { type AnswerListener, Asking, Drained, failureOf, type Question } from './asking.ts'
import { ClientStream, type ClientStreamOwner, type Place } from './client-stream.ts'
import type { LlmConnections } from './connections.ts'
import { Ending } from './ending.ts'
import { isEventStream, messageOf, plainHead, streamHead } from './heads.ts'
import { WholeBlocks } from './whole-blocks.ts'

export interface Generation {
  readonly pool: string
  /** What its chat is known by, beside the credentials. */
  readonly label: string
  readonly dialect: Dialect
  readonly request: GenerationRequest
  readonly body: Buffer
  /** Goes on when the client has gone. */
  readonly durable: boolean
  /** The client's credentials: whoever has them may resume the chat. */
  readonly owner: string
  /** Whose run it is; null: nobody's. */
  readonly user: string | null
}

export interface ExchangeHost {
  readonly gateway: Gateway
  readonly connections: LlmConnections
  /** The run has begun and can be found. */
  started(run: RelayedRun, generation: Generation): void
  over(exchange: Exchange): void
}

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
export class Exchange implements AnswerListener, RelayListener, ClientStreamOwner {
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
  private readonly stream: ClientStream
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
    this.stream = new ClientStream(response, generation.dialect, host.gateway, this)
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
    this.stream.watch()
    if (++this.silentSeconds * 1_000 < runHeartbeatMs) return
    if (this.phase !== 'asking' && this.phase !== 'streaming') return
    // No reassurance about a server that does not live.
    if (this.asking?.entry.health === 'down') {
      this.asking.abort()
      this.lost(new Error('silent, and its probes fail'))
      return
    }
    this.silentSeconds = 0
    if (!this.generation.request.streams || this.stream.done) return
    if (this.hasHead) this.stream.beat()
    else void this.sendHead([])
  }

  /** The gateway stops. */
  stop(): void {
    if (this.phase === 'over') return
    this.asking?.abort()
    if (this.phase === 'plain') this.stream.cut()
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
    if (this.stream.done) return
    this.response.on('drain', () => this.asking?.resume())
    this.response.writeHead(status, statusText, plainHead(headers))
    this.settled.resolve()
  }

  data(buffer: Buffer, from: number, to: number): void {
    this.silentSeconds = 0
    if (this.phase === 'streaming') {
      if (this.blocks.isWhole(buffer, from, to)) this.passOn(buffer, from, to)
      else this.divide(buffer.subarray(from, to))
    } else if (this.phase === 'refused') {
      this.refusalBytes += to - from
      if (this.refusalBytes <= refusalBytesMost) this.refusal.push(Buffer.from(buffer.subarray(from, to)))
    } else if (!this.stream.done && !this.response.write(Buffer.from(buffer.subarray(from, to))))
      this.asking!.pause()
  }

  turned(): void {
    this.stream.turned()
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
      this.logged()
      // Pass on what nobody else can read; a client that is gone or behind gets nothing more from here.
      if (!this.stream.done && !this.stream.isBehind) return
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

  // ClientStreamOwner

  place(): Place | null {
    return this.logging ? { run: this.run!.run, ...this.run!.position() } : null
  }

  hold(): void {
    this.pausedBy = 'client'
    this.asking!.pause()
  }

  go(): void {
    if (this.pausedBy !== 'client') return
    this.pausedBy = null
    this.asking!.resume()
  }

  clientDone(): void {
    this.settled.resolve()
    this.leave()
  }

  // Inside.

  /** Asks the next server, or gives up with the error. */
  private ask(error: Error | null): void {
    const { host, generation, tried } = this
    const mayAsk =
      error === null || (mayAskAnother(failureOf(error), generation.dialect) && tried.size < triesMax)
    const entry = mayAsk ? this.choose() : null
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
    this.asking = new Asking(entry, this.question(entry), connections, gateway, this)
  }

  private choose(): UpstreamEntry | null {
    const { gateway } = this.host
    const { pool, request } = this.generation
    const entry =
      request.key === null
        ? gateway.choose(pool, null, shownBy(this.client), this.tried)
        : gateway.chooseByKey(pool, request.key, this.tried)
    return entry as UpstreamEntry | null
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
    const { pool, dialect, user } = generation
    try {
      this.run = host.gateway.runs.relay({ pool, format: dialect, owner: user, listener: this })
    } catch {
      // The gateway leaves: what it has begun it ends, but others could not read it for long.
      return false
    }
    this.logging = await this.run.begun
    if (this.logging) host.started(this.run, generation)
    return this.logging
  }

  /** `headers` of the server; none: it has not answered yet. */
  private async sendHead(headers: readonly string[]): Promise<void> {
    this.hasHead = true
    if (this.run === null) await this.startRun()
    if (this.stream.done || this.stream.isOpen) return
    const run = this.logging ? this.run!.run : null
    this.stream.open(streamHead(headers, this.client, run), headers.length === 0)
    this.settled.resolve()
  }

  private divide(chunk: Buffer): void {
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
    if (this.run?.keeps !== true) this.ending.add(buffer, from, to)
    this.log(buffer, from, to)
    this.stream.deliver(buffer, from, to)
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

  /** Who reads here is not to wait for a log that is away. */
  private giveUpLog(): void {
    if (this.generation.durable || this.stream.isBehind) return
    this.logging = false
    this.run!.abandon()
    this.logged()
  }

  private streamEnded(): void {
    const rest = this.blocks.rest()
    if (!this.isWhole(rest)) {
      this.lost(new Error('ended before it was whole'))
      return
    }
    if (rest.length > 0) {
      this.log(rest, 0, rest.length)
      this.stream.deliver(rest, 0, rest.length)
      this.turned()
    }
    this.run?.end({ type: 'end', reason: 'complete' })
    this.finish()
    if (!this.stream.isBehind) this.stream.end(null)
  }

  /** Whether all is said, with what has come last. */
  private isWhole(rest: Buffer): boolean {
    const kept = new Ending()
    for (const events of this.run?.newest() ?? []) kept.addNewest(events)
    this.ending.add(rest)
    return isWhole(this.generation.dialect, `${kept}${this.ending}`)
  }

  /** The answer is cut. */
  private lost(error: Error): void {
    if (this.phase === 'plain') {
      this.finish()
      this.stream.cut()
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
    if (!this.stream.isBehind || !this.run!.isLogged) this.stream.end(said)
  }

  private clientLeft(): void {
    const wasDone = this.stream.done
    this.stream.left()
    if (wasDone || this.phase === 'over') return
    if (this.generation.durable && this.phase !== 'plain' && this.logging) return
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
    this.leave()
  }

  /** Nobody waits for anything of it. */
  private leave(): void {
    if (this.phase === 'over' && this.stream.done) this.host.over(this)
  }
}
