import type { AskFailure } from '../../core/llm/retry.ts'
import type { Gateway } from '../../gateway/gateway.ts'
import { DialError } from '../../gateway/upstream-connection.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import type { Limits } from '../../protocol/limits.ts'
import type { HeaderPair } from '../upstream/headers.ts'
import { type AnswerHandler, AnswerParser } from './answer-parser.ts'
import type { Connection, ConnectionUser, LlmConnections } from './connections.ts'

/** Who is told what comes of a request. */
export interface AnswerListener {
  /** The head of the answer; raw headers, name and value in turn. */
  answered(status: number, statusText: string, headers: readonly string[]): void
  /** A part of the buffer, valid during the call. */
  data(buffer: Buffer, from: number, to: number): void
  /** All that one read of the connection has brought was given. */
  turned(): void
  /** The answer is complete as far as HTTP can say. */
  ended(): void
  /** It is over before that. */
  failed(error: Error): void
}

export interface Question {
  readonly path: string
  /** Of the client, without those that say how long the body is. */
  readonly headers: readonly HeaderPair[]
  readonly body: Buffer
  /** Whether a connection may be used that has carried another answer. */
  readonly reuse: boolean
}

/** One POST at one server. */
export class Asking implements AnswerHandler, ConnectionUser {
  readonly entry: UpstreamEntry
  private readonly listener: AnswerListener
  private readonly connections: LlmConnections
  private readonly connection: Connection
  private readonly parser = new AnswerParser(this)
  private readonly question: Question
  private readonly limits: Readonly<Limits>
  private timer: NodeJS.Timeout
  private readonly now: () => number
  private askedAt = 0
  private hasHead = false
  private over = false

  constructor(
    entry: UpstreamEntry,
    question: Question,
    connections: LlmConnections,
    { limits, now }: Pick<Gateway, 'limits' | 'now'>,
    listener: AnswerListener,
  ) {
    this.entry = entry
    this.question = question
    this.connections = connections
    this.limits = limits
    this.now = now
    this.listener = listener
    entry.requests.add(this.cut)
    this.connection = connections.take(entry, !question.reuse)
    this.connection.user = this
    this.timer = setTimeout(() => this.late(), limits.upstreamDialMs)
    if (this.connection.connected) this.connected()
  }

  /** The drain of the server has come to its end. */
  readonly cut = (): void => {
    if (this.over) return
    this.abort()
    this.listener.failed(new Drained())
  }

  /** The listener hears nothing more, and the server of the end at once. */
  abort(): void {
    if (this.over) return
    this.close()
    this.connection.destroy()
  }

  pause(): void {
    if (!this.over) this.connection.socket.pause()
  }

  resume(): void {
    if (!this.over) this.connection.socket.resume()
  }

  // ConnectionUser

  connected(): void {
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.late(), this.limits.llmHeadMs)
    this.askedAt = this.now()
    const { path, headers, body } = this.question
    const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')
    const head = `POST ${path} HTTP/1.1\r\n${lines}Content-Length: ${body.length}\r\nConnection: keep-alive\r\n\r\n`
    this.connection.socket.write(Buffer.concat([Buffer.from(head, 'latin1'), body]))
  }

  received(buffer: Buffer, bytes: number): void {
    this.entry.bytes += bytes
    try {
      this.parser.push(buffer, bytes)
    } catch (error) {
      if (!this.over) this.fail(error as Error)
      return
    }
    if (!this.over) this.listener.turned()
  }

  closed(error: Error | null): void {
    if (this.over || (error === null && this.parser.ended())) return
    const isDial = !this.connection.connected
    const why = error ?? new Error('the connection was closed')
    this.fail(isDial ? new DialError(why.message, { unanswered: true, cause: why }) : new CutError(why))
  }

  // AnswerHandler

  head(status: number, statusText: string, headers: readonly string[]): void {
    if (this.over) return
    clearTimeout(this.timer)
    this.hasHead = true
    this.entry.messages++
    this.entry.bytes += this.question.body.length
    this.entry.answered(this.now() - this.askedAt, this.now())
    this.entry.report(status >= 500 ? 'error-response' : 'ok')
    this.listener.answered(status, statusText, headers)
  }

  data(buffer: Buffer, from: number, to: number): void {
    if (!this.over) this.listener.data(buffer, from, to)
  }

  end(): void {
    if (this.over) return
    this.close()
    const { connection, connections, entry, parser } = this
    connection.user = null
    // The last read may have brought too much, and the next request wants its answer.
    connection.socket.resume()
    // Whether something follows that nobody asked for is known when this read has been parsed.
    setImmediate(() => {
      if (parser.reusable) connections.give(entry, connection, parser.keepAliveSeconds)
      else connection.destroy()
    })
    this.listener.ended()
  }

  private late(): void {
    const isDial = !this.connection.connected
    this.fail(
      isDial
        ? new DialError('no connection in time', { unanswered: true, timedOut: true })
        : new EvenkeelError('GATEWAY_TIMEOUT', 'the server did not answer in time'),
    )
  }

  private fail(error: Error): void {
    if (error instanceof DialError) this.entry.report('connect-failed')
    else this.entry.report(this.hasHead || error instanceof CutError ? 'broken' : 'error-response')
    this.abort()
    this.listener.failed(error)
  }

  private close(): void {
    this.over = true
    clearTimeout(this.timer)
    this.entry.requests.delete(this.cut)
  }
}

/** The server is to be empty by now. */
export class Drained extends Error {
  constructor() {
    super('the server is drained')
  }
}

/** The connection broke before the answer was complete. */
export class CutError extends Error {
  constructor(cause: Error) {
    super('the server was lost', { cause })
  }
}

export function failureOf(error: Error): AskFailure {
  if (error instanceof DialError) return 'unanswered'
  return error instanceof CutError ? 'cut' : 'other'
}
