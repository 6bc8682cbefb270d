import type { IncomingHttpHeaders } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import { Readable } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { http1Head } from './head.ts'

/**
 * A request over HTTP/2, as those over HTTP/1.1 look to the edges: no pseudo headers, a Host, one Cookie; a body of unknown length is
 * said to be chunked. Node's own compatibility layer takes an upload that was broken off for one that is complete.
 */
export class Http2Request extends Readable {
  readonly httpVersion = '2.0'
  readonly httpVersionMajor = 2
  readonly httpVersionMinor = 0
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly rawHeaders: string[]
  /** The connection, which is not this request's alone. */
  readonly socket: TLSSocket
  /** The whole body has come. */
  complete: boolean
  aborted = false
  /** Bytes of the body. */
  received = 0
  private readonly stream: ServerHttp2Stream
  private reading = false

  constructor(stream: ServerHttp2Stream, rawHeaders: readonly string[], socket: TLSSocket) {
    // It is over when its stream is, not when its body has been read.
    super({ highWaterMark: 64 * 1024, autoDestroy: false })
    const head = http1Head(rawHeaders, !stream.endAfterHeaders)
    this.method = head.method
    this.url = head.url
    this.headers = head.headers
    this.rawHeaders = head.rawHeaders
    this.stream = stream
    this.socket = socket
    this.complete = stream.endAfterHeaders
    if (this.complete) {
      // Without a reader the stream would not close.
      stream.resume()
      this.push(null)
    }
    stream.on('close', () => this.over())
    if (this.complete) return
    stream.on('end', () => {
      if (this.aborted) return
      this.complete = true
      this.push(null)
    })
    stream.on('aborted', () => this.over())
  }

  /** What engine.io calls it. */
  get connection(): TLSSocket {
    return this.socket
  }

  override _read(): void {
    if (this.complete) return
    if (!this.reading) {
      this.reading = true
      this.stream.on('data', (chunk: Buffer) => {
        this.received += chunk.length
        if (!this.push(chunk)) this.stream.pause()
      })
    }
    this.stream.resume()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const { stream, complete } = this
    if (!complete) {
      this.aborted = true
      // An answer that is about to be given says more than the end of the stream.
      setImmediate(() => {
        if (!stream.headersSent && !stream.destroyed) stream.close(cancel)
      })
    }
    // As of HTTP/1.1: nobody is made to listen.
    done(this.listenerCount('error') === 0 ? null : error)
  }

  setTimeout(ms: number, listener?: () => void): this {
    this.stream.setTimeout(ms, listener)
    return this
  }

  private over(): void {
    if (this.complete) this.destroy()
    else this.destroy(Object.assign(new Error('aborted'), { code: 'ECONNRESET' }))
  }
}

/** RFC 9113 §7. */
const cancel = 8
