import { type Agent, type IncomingMessage, request } from 'node:http'
import { onTestFinished } from 'vitest'
import { EventStreamParser, type StreamEvent } from './event-stream.ts'
import { until } from './until.ts'

export interface SseStreamOptions {
  lastEventId?: string
  headers?: Record<string, string>
  query?: string
  /** Default: a socket of its own. */
  agent?: Agent
  /** Resets the connection behind so many bytes of the stream. */
  cutAt?: number
}

export interface SessionEvent {
  session: string
  token: string
  recovered: boolean | null
  reason: string | null
}

/** One request for `/sse` over a socket of its own, read byte by byte as a browser would. It ends with the test. */
export class SseStream {
  readonly events: StreamEvent[] = []
  readonly response: IncomingMessage
  /** Of the stream. */
  bytes = 0
  ended = false
  private readonly taken = new Set<StreamEvent>()
  private readonly parser = new EventStreamParser()
  private readonly decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  private readonly looks = new Set<() => void>()
  private readonly cutAt: number

  private constructor(response: IncomingMessage, cutAt: number) {
    this.response = response
    this.cutAt = cutAt
    response.on('data', (chunk: Buffer) => this.read(chunk))
    // A stream that breaks off ends too.
    response.on('error', () => {})
    response.on('close', () => {
      this.ended = true
      this.look()
    })
    if (cutAt === 0) this.cut()
  }

  static async open(httpUrl: string, options: SseStreamOptions = {}): Promise<SseStream> {
    const {
      lastEventId = '',
      headers = {},
      query = '',
      agent = false,
      cutAt = Number.POSITIVE_INFINITY,
    } = options
    const known = lastEventId === '' ? {} : { 'last-event-id': lastEventId }
    const sent = request(`${httpUrl}/sse${query}`, { agent, headers: { ...known, ...headers } })
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    sent.on('response', resolve).on('error', reject).end()
    onTestFinished(() => void sent.destroy())
    return new SseStream(await promise, cutAt)
  }

  get lastEventId(): string {
    return this.parser.lastEventId
  }

  get retryMs(): number | null {
    return this.parser.retryMs
  }

  /** The data of events of this type. */
  data(type = 'message'): string[] {
    return this.events.filter((event) => event.type === type).map(({ data }) => data)
  }

  /** The first event of this type that was not taken yet. Waits for it. */
  async next(type = 'message'): Promise<StreamEvent> {
    const find = () => this.events.find((event) => event.type === type && !this.taken.has(event))
    await this.until(() => find() !== undefined || this.ended, `event ${type}`)
    const event = find()
    if (event === undefined) throw new Error(`the stream ended before an event ${type}`)
    this.taken.add(event)
    return event
  }

  async session(): Promise<SessionEvent> {
    return JSON.parse((await this.next('session')).data) as SessionEvent
  }

  async end(): Promise<void> {
    await this.until(() => this.ended, 'the end of the stream')
  }

  until(condition: () => boolean, what: string): Promise<void> {
    return until(condition, this.looks, { what })
  }

  /** As when the network is gone. */
  cut(): void {
    this.response.socket.resetAndDestroy()
  }

  private read(chunk: Buffer): void {
    const piece = chunk.subarray(0, this.cutAt - this.bytes)
    this.bytes += piece.length
    this.events.push(...this.parser.push(this.decoder.decode(piece, { stream: true })))
    if (this.bytes >= this.cutAt) this.cut()
    this.look()
  }

  private look(): void {
    for (const look of [...this.looks]) look()
  }
}

/** Posts as the application of a stream would. */
export function postTo(
  httpUrl: string,
  { session, token }: Pick<SessionEvent, 'session' | 'token'>,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(`${httpUrl}/sse/${session}`, {
    method: 'POST',
    body,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'text/plain', ...headers },
  })
}
