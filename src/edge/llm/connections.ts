import { connect, type Socket } from 'node:net'
import type { Upstream } from '../../gateway/upstream-directory.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { connectTo } from '../upstream/socket.ts'

/** Who has the connection. */
export interface ConnectionUser {
  connected(): void
  /** The first bytes of the buffer, valid during the call. */
  received(buffer: Buffer, bytes: number): void
  /** Once, and the last call. `error`: null when the server has ended it well. */
  closed(error: Error | null): void
}

const tcpKeepAliveMs = 15_000
/** Servers mostly wait for 5 s and more, and the nearer it is the likelier a request meets the end of its connection. */
const idleSeconds = 3
const idleMost = 64
/** Every read is consumed before its callback returns. */
const readBuffer = Buffer.allocUnsafeSlow(64 * 1024)

/** One connection to a language model, for one request at a time. */
export class Connection {
  readonly upstream: Upstream
  readonly socket: Socket
  user: ConnectionUser | null = null
  /** It has carried an answer before: what breaks now may be the end of its idle time. */
  reused = false
  connected = false
  idleTimer: NodeJS.Timeout | null = null
  private error: Error | null = null

  constructor(upstream: Upstream) {
    this.upstream = upstream
    const isPlain = upstream.url.protocol !== 'https:'
    this.socket = isPlain ? this.plain(upstream) : connectTo(upstream)
    if (!isPlain) this.socket.on('data', (chunk: Buffer) => this.user?.received(chunk, chunk.length))
    this.socket.once(isPlain ? 'connect' : 'secureConnect', () => {
      this.connected = true
      this.user?.connected()
    })
    this.socket.on('error', (error) => {
      this.error = error
    })
    this.socket.on('close', () => {
      const { user } = this
      this.user = null
      user?.closed(this.error)
    })
  }

  /** The user hears nothing more. */
  destroy(): void {
    this.user = null
    this.socket.destroy()
  }

  private plain({ address }: Upstream): Socket {
    return connect({
      host: address.host,
      port: address.port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: tcpKeepAliveMs,
      onread: {
        buffer: readBuffer,
        callback: (bytes) => {
          // Nobody waits for it: whatever it is, no request may follow it.
          if (this.user === null) this.socket.destroy()
          else this.user.received(readBuffer, bytes)
          return true
        },
      },
    })
  }
}

/** Connections that are kept for the next request. */
export class LlmConnections {
  private readonly idle = new Map<UpstreamEntry, Connection[]>()

  /** `fresh`: one that has not been used. */
  take(entry: UpstreamEntry, fresh: boolean): Connection {
    const kept = this.idle.get(entry)
    while (!fresh && kept !== undefined && kept.length > 0) {
      const connection = kept.pop()!
      clearTimeout(connection.idleTimer!)
      if (connection.upstream === entry.upstream && !connection.socket.destroyed) return connection
      connection.destroy()
    }
    return new Connection(entry.upstream)
  }

  /** It has carried an answer to its end, and may carry another one. */
  give(entry: UpstreamEntry, connection: Connection, keepAliveSeconds: number | null): void {
    const kept = this.idle.get(entry) ?? []
    const seconds = keepAliveSeconds === null ? idleSeconds : Math.min(60, keepAliveSeconds - 1)
    if (seconds <= 0 || kept.length >= idleMost || connection.socket.destroyed) {
      connection.destroy()
      return
    }
    this.idle.set(entry, kept)
    kept.push(connection)
    connection.reused = true
    const drop = () => {
      const at = kept.indexOf(connection)
      if (at !== -1) kept.splice(at, 1)
      if (kept.length === 0 && this.idle.get(entry) === kept) this.idle.delete(entry)
      clearTimeout(connection.idleTimer!)
      connection.destroy()
    }
    connection.user = { connected() {}, received: drop, closed: drop }
    connection.idleTimer = setTimeout(drop, seconds * 1_000).unref()
  }

  close(): void {
    for (const kept of this.idle.values())
      for (const connection of kept) {
        clearTimeout(connection.idleTimer!)
        connection.destroy()
      }
    this.idle.clear()
  }
}
