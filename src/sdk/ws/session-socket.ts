import type { Session } from '../types.ts'
import type { HandshakeSocket } from './handshake.ts'
import type { Done } from './send-queue.ts'
import { type BaseSocket, type SendOptions, SocketCore, type SocketHost } from './socket-core.ts'

/** The `WebSocket` class of the application's `ws`, as its own server makes sockets of it. */
export type WebSocketClass = new (address: null, protocols: undefined, options: object) => BaseSocket

export interface SessionSocket extends BaseSocket {
  readonly core: SocketCore
}

export type SessionSocketClass = new (
  options: object,
  subprotocol: string,
  session: Session,
  socket: HandshakeSocket,
  host: SocketHost,
) => SessionSocket

/** A class whose objects are sockets of the application's `ws`, with a session in place of a connection. */
export function sessionSocketClass(Base: WebSocketClass): SessionSocketClass {
  return class extends Base {
    readonly core: SocketCore
    readonly #protocol: string

    constructor(
      options: object,
      subprotocol: string,
      session: Session,
      socket: HandshakeSocket,
      host: SocketHost,
    ) {
      super(null, undefined, options)
      this.#protocol = subprotocol
      this.core = new SocketCore(this, session, socket, host)
      // What is printed of a socket is what its own fields say.
      Object.defineProperty(this, 'core', { enumerable: false })
    }

    get readyState() {
      return this.core.readyState
    }
    get bufferedAmount() {
      return this.core.bufferedAmount
    }
    get isPaused() {
      return this.core.isPaused
    }
    get protocol() {
      return this.#protocol
    }
    get extensions() {
      return ''
    }
    send(data: unknown, options?: SendOptions | Done, done?: Done) {
      this.core.send(data, options, done)
    }
    close(code?: number, reason?: string | Buffer) {
      this.core.close(code, reason)
    }
    terminate() {
      this.core.terminate()
    }
    ping(data?: unknown, mask?: unknown, done?: Done) {
      this.core.ping(data, mask, done)
    }
    pong(data?: unknown, mask?: unknown, done?: Done) {
      this.core.pong(data, mask, done)
    }
    pause() {
      this.core.pause()
    }
    resume() {
      this.core.resume()
    }
  }
}
