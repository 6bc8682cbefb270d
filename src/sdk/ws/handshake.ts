import { IncomingMessage } from 'node:http'
import { isIPv6, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { SessionMeta } from '../types.ts'

/** Stands in for the client's socket, which is at the gateway: says who the client is, and ends with the session. */
export class HandshakeSocket extends Duplex {
  readonly remoteAddress: string
  readonly remoteFamily: string

  constructor(address: string) {
    super()
    this.remoteAddress = address
    this.remoteFamily = isIPv6(address) ? 'IPv6' : 'IPv4'
  }

  override _read(): void {}

  override _write(_chunk: unknown, _encoding: string, done: () => void): void {
    done()
  }

  /** `finish`, then `close`, as of a socket whose peer has gone. */
  finish(): void {
    if (this.destroyed || this.writableEnded) return
    this.end(() => this.destroy())
  }

  address() {
    return {}
  }

  // The gateway's business; applications that set them mean no harm.
  setTimeout(): this {
    return this
  }
  setNoDelay(): this {
    return this
  }
  setKeepAlive(): this {
    return this
  }
  ref(): this {
    return this
  }
  unref(): this {
    return this
  }
}

/** The client's request as an application that listens itself would have got it. */
export function handshakeRequest(meta: SessionMeta, socket: HandshakeSocket): IncomingMessage {
  const { path, query, headers } = meta
  const request = new IncomingMessage(socket as unknown as Socket)
  request.method = 'GET'
  request.url = query === '' ? path : `${path}?${query}`
  request.httpVersion = '1.1'
  request.httpVersionMajor = 1
  request.httpVersionMinor = 1
  // As it was parsed: copying would make `__proto__`, which clients may send, something else than a header.
  request.headers = headers
  headers.connection = 'Upgrade'
  headers.upgrade = 'websocket'
  request.rawHeaders = Object.entries(headers).flat()
  request.complete = true
  request.push(null)
  return request
}
