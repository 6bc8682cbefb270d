import { type Dispatcher, Pool } from 'undici'
import { DialError } from '../../gateway/upstream-connection.ts'
import type { Upstream } from '../../gateway/upstream-directory.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import type { Limits } from '../../protocol/limits.ts'
import { connectTo } from './socket.ts'

interface Kept {
  readonly upstream: Upstream
  readonly pool: Pool
}

/** Connections for requests, kept alive, for each upstream. */
export class UpstreamPools {
  private readonly limits: Readonly<Limits>
  private readonly kept = new Map<UpstreamEntry, Kept>()
  private readonly single = new Set<Dispatcher>()

  constructor(limits: Readonly<Limits>) {
    this.limits = limits
  }

  of(entry: UpstreamEntry): Pool {
    const { upstream } = entry
    const known = this.kept.get(entry)
    if (known !== undefined && isSamePlace(known.upstream, upstream)) return known.pool
    void known?.pool.close()
    const pool = this.open(upstream)
    this.kept.set(entry, { upstream, pool })
    return pool
  }

  /** To be called now and then: lets go of connections to upstreams that are gone. */
  forget(isGone: (entry: UpstreamEntry) => boolean): void {
    for (const [entry, { pool }] of this.kept) {
      if (!isGone(entry)) continue
      this.kept.delete(entry)
      void pool.close()
    }
  }

  close(): void {
    for (const { pool } of this.kept.values()) void pool.destroy()
    this.kept.clear()
    for (const pool of this.single) void pool.destroy()
    this.single.clear()
  }

  /** A connection for one request, which begins with the header; it ends with the answer. */
  once({ upstream }: UpstreamEntry, header: Uint8Array): Dispatcher {
    const pool = this.open(upstream, 1, header)
    this.single.add(pool)
    return pool
  }

  /** The request was made; the connection is let go of when it is answered. */
  release(pool: Dispatcher): void {
    const gone = () => this.single.delete(pool)
    void pool.close().then(gone, gone)
  }

  private open(
    upstream: Upstream,
    connections = this.limits.upstreamConnections,
    header: Uint8Array | null = null,
  ): Pool {
    const { upstreamDialMs, upstreamReadMs, headerBytes } = this.limits
    return new Pool(upstream.url.origin, {
      connections,
      // One request at a time, so that none is ever sent again because another one on its connection failed.
      pipelining: 1,
      headersTimeout: upstreamReadMs,
      // What is slow on purpose (event streams, long downloads) ends when its client leaves.
      bodyTimeout: 0,
      maxHeaderSize: headerBytes,
      connect(_options, callback) {
        const socket = connectTo(upstream, header)
        const event = upstream.url.protocol === 'https:' ? 'secureConnect' : 'connect'
        const timer = setTimeout(() => {
          socket.destroy()
          callback(unreachable('no connection in time', { timedOut: true }), null)
        }, upstreamDialMs)
        const failed = (error: NodeJS.ErrnoException) => {
          clearTimeout(timer)
          callback(unreachable(error.code ?? error.message, { cause: error }), null)
        }
        socket.once('error', failed)
        socket.once(event, () => {
          clearTimeout(timer)
          socket.off('error', failed)
          callback(null, socket)
        })
        return socket
      },
    })
  }
}

function unreachable(why: string, options: ConstructorParameters<typeof DialError>[1]): DialError {
  return new DialError(why, { ...options, unanswered: true })
}

function isSamePlace(a: Upstream, b: Upstream): boolean {
  return a.url.href === b.url.href && a.address.host === b.address.host && a.address.port === b.address.port
}
