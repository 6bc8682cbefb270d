import {
  type OutgoingHttpHeader,
  type OutgoingHttpHeaders,
  validateHeaderName,
  validateHeaderValue,
} from 'node:http'
import type { OutgoingHttpHeaders as Http2Headers, ServerHttp2Stream } from 'node:http2'
import { Writable } from 'node:stream'
import type { Http2Request } from './request.ts'
import { StallWatch } from './stall-watch.ts'

/** Of one connection; a stream that has them is malformed (RFC 9113 §8.2.2). */
const ofConnection: ReadonlySet<string> = new Set([
  'connection',
  'http2-settings',
  'keep-alive',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
])

const internalError = 2
const cancelled = 8

/**
 * An answer over HTTP/2, as one over HTTP/1.1 looks to the edges. What it holds is what the client's window and the connection have not
 * taken. It has no socket: that is shared by all streams of the connection.
 */
export class Http2Response extends Writable {
  statusCode = 200
  statusMessage = ''
  headersSent = false
  readonly socket = null
  readonly connection = null
  readonly chunkedEncoding = false
  private readonly stream: ServerHttp2Stream
  private readonly request: Http2Request
  private readonly lingerMs: number
  private readonly fields = new Map<string, string | string[]>()
  private begun = false
  private sent = 0
  private watch: StallWatch | null = null
  private lingering: StallWatch | null = null

  /** `lingerMs`: a client that takes nothing of an answer that is complete is cut after this time. */
  constructor(stream: ServerHttp2Stream, request: Http2Request, lingerMs: number) {
    super({ highWaterMark: 64 * 1024 })
    this.stream = stream
    this.request = request
    this.lingerMs = lingerMs
    // As of HTTP/1.1: who has gone is told by `close`.
    this.on('error', () => {})
    stream.on('close', () => {
      this.watch?.stop()
      this.lingering?.stop()
      this.destroy()
    })
  }

  /** With what waits, as of sockets. */
  get bytesWritten(): number {
    return this.sent + this.writableLength
  }

  setHeader(name: string, value: OutgoingHttpHeader): this {
    const lower = name.toLowerCase()
    validateHeaderName(name)
    for (const one of [value].flat()) validateHeaderValue(name, String(one))
    this.fields.set(lower, Array.isArray(value) ? value.map(String) : String(value))
    return this
  }

  appendHeader(name: string, value: string | readonly string[]): this {
    return this.setHeader(name, [this.fields.get(name.toLowerCase()) ?? [], value as string[]].flat())
  }

  getHeader(name: string): string | string[] | undefined {
    return this.fields.get(name.toLowerCase())
  }

  getHeaders(): OutgoingHttpHeaders {
    return Object.assign(Object.create(null), Object.fromEntries(this.fields))
  }

  getHeaderNames(): string[] {
    return [...this.fields.keys()]
  }

  hasHeader(name: string): boolean {
    return this.fields.has(name.toLowerCase())
  }

  removeHeader(name: string): void {
    this.fields.delete(name.toLowerCase())
  }

  /** The reason is not sent: HTTP/2 has none. Throws for what no header may be. */
  writeHead(
    status: number,
    reason?: string | OutgoingHttpHeaders | readonly string[],
    more?: OutgoingHttpHeaders | readonly string[],
  ): this {
    if (this.headersSent) throw new Error('the head was written already')
    // Others are not allowed in HTTP/2, which would be found out when nobody could be told any more.
    if (!Number.isInteger(status) || status < 200 || status > 599)
      throw new RangeError(`no status of HTTP: ${status}`)
    this.statusCode = status
    const given = typeof reason === 'object' ? reason : more
    for (const [name, value] of grouped(given ?? [])) this.setHeader(name, value)
    this.headersSent = true
    return this
  }

  writeContinue(): void {
    if (!this.stream.headersSent && !this.stream.destroyed) this.stream.additionalHeaders({ ':status': 100 })
  }

  flushHeaders(): void {
    this.begin(false)
  }

  /** Calls back when nothing has moved on the stream for so long. */
  setTimeout(ms: number, listener?: () => void): this {
    this.watch?.stop()
    this.watch = null
    if (ms > 0 && !this.stream.destroyed)
      this.watch = new StallWatch(
        ms,
        () => this.sent + this.request.received,
        listener ?? (() => this.destroy()),
      )
    return this
  }

  override end(...last: unknown[]): this {
    if (this.lingering === null && !this.stream.destroyed) {
      const { stream } = this
      this.lingering = new StallWatch(
        this.lingerMs,
        () => this.sent,
        () => stream.close(cancelled),
      )
    }
    return super.end(...(last as []))
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.begin(false)
    if (chunk.length === 0 || this.isDeaf) done()
    else this.stream.write(chunk, this.taken(chunk.length, done))
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.begin(false)
    const full = chunks.filter(({ chunk }) => chunk.length > 0)
    const last = full.pop()
    if (last === undefined || this.isDeaf) {
      done()
      return
    }
    const { stream } = this
    let bytes = last.chunk.length
    stream.cork()
    for (const { chunk } of full) {
      bytes += chunk.length
      stream.write(chunk)
    }
    stream.write(last.chunk, this.taken(bytes, done))
    stream.uncork()
  }

  override _final(done: () => void): void {
    const { stream, request } = this
    if (!this.begun) this.begin(true)
    else if (!stream.destroyed && !stream.writableEnded) stream.end()
    if (!stream.destroyed) {
      // What is left of the request is not wanted, and the client may stop sending it (RFC 9113 §8.1).
      if (!request.complete) {
        stream.close(0)
        stream.resume()
      }
    }
    done()
  }

  override _destroy(_error: Error | null, done: (error?: Error | null) => void): void {
    const { stream } = this
    if (!this.writableFinished && !stream.destroyed && !stream.closed) stream.close(internalError)
    done()
  }

  /** What is written goes nowhere: there must be no body, or nobody is there. */
  private get isDeaf(): boolean {
    const { stream } = this
    return stream.destroyed || stream.closed || stream.writableEnded
  }

  private taken(bytes: number, done: () => void): (error?: Error | null) => void {
    return () => {
      this.sent += bytes
      done()
    }
  }

  private begin(isEnd: boolean): void {
    if (this.begun) return
    this.begun = true
    this.headersSent = true
    const { stream } = this
    if (stream.destroyed || stream.closed) return
    const headers: Http2Headers = { ':status': this.statusCode }
    for (const [name, value] of this.fields) if (!ofConnection.has(name)) headers[name] = value
    try {
      stream.respond(headers, { endStream: isEnd })
    } catch {
      stream.close(internalError)
    }
  }
}

/** Headers of one name as one, but for cookies, which are several. */
function grouped(given: OutgoingHttpHeaders | readonly string[]): Map<string, OutgoingHttpHeader> {
  const found = new Map<string, OutgoingHttpHeader>()
  if (!Array.isArray(given)) {
    for (const [name, value] of Object.entries(given)) if (value !== undefined) found.set(name, value)
    return found
  }
  for (let i = 0; i + 1 < given.length; i += 2) {
    const name = given[i]!.toLowerCase()
    const value = given[i + 1]!
    const before = found.get(name)
    if (before === undefined) found.set(name, value)
    else found.set(name, name === 'set-cookie' ? ([before, value].flat() as string[]) : `${before}, ${value}`)
  }
  return found
}
