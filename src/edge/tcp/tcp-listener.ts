import { createServer, type Server, type Socket } from 'node:net'
import { parseClientHello } from '../../core/net/client-hello.ts'
import { matchServerName, type ServerNameRoutes } from '../../core/route/server-name.ts'
import type { Gateway } from '../../gateway/gateway.ts'
import type { UpstreamEntry } from '../../gateway/upstream-entry.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import { peerAddress } from '../peer-address.ts'
import { readPrologue } from '../prologue.ts'
import { type ProxyHeaders, type ProxyHeadersOptions, requireProxyHeaders } from '../proxy-headers.ts'
import { dialTcp, isTaken, keepAliveMs } from './dial.ts'
import { TcpRelay } from './relay.ts'

export interface TcpListenerOptions {
  readonly gateway: Gateway
  /** The pool of upstreams that clients are connected to; null: only those whose server name leads to one. */
  readonly pool: string | null
  /** Pools by the server name in a TLS ClientHello; null: nobody looks for one. */
  readonly serverNames: ServerNameRoutes<string> | null
  /** Connections over which nothing has moved for so long are cut. */
  readonly idleMs: number
  /** Connections at once; null: any number. Those beyond it are cut. */
  readonly maxConnections: number | null
  /** null: clients connect themselves. */
  readonly proxyHeaders: ProxyHeadersOptions | null
  /** A connection was cut before it had an upstream. */
  onRefused(reason: string, address: string): void
  /** An error that is ours. */
  onError(error: unknown): void
}

const sweepMs = 1_000
/** Upstreams that one client is tried at. */
const triesMost = 3

/** Connects clients to upstreams, whatever they speak. */
export class TcpListener {
  readonly server: Server
  private readonly options: TcpListenerOptions
  private readonly proxyHeaders: ProxyHeaders | null
  /** Clients that have no upstream yet. */
  private readonly arriving = new Set<Socket>()
  private readonly relays = new Set<TcpRelay>()
  private readonly sweeper: NodeJS.Timeout

  constructor(options: TcpListenerOptions) {
    this.options = options
    this.server = createServer({
      // A client that has said all is still to be answered.
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveMs,
    })
    if (options.maxConnections !== null) this.server.maxConnections = options.maxConnections
    this.server.on('drop', (data) =>
      options.onRefused(`more than ${options.maxConnections} connections`, data?.remoteAddress ?? ''),
    )
    this.server.on('connection', (socket) => this.accept(socket))
    const { limits } = options.gateway
    this.proxyHeaders =
      options.proxyHeaders && requireProxyHeaders(this.server, () => limits.handshakeMs, options.proxyHeaders)
    const everyMs = Math.min(sweepMs, options.idleMs)
    this.sweeper = setInterval(() => {
      for (const relay of this.relays) relay.sweep(everyMs, options.idleMs)
    }, everyMs)
  }

  stopAccepting(): void {
    this.server.close()
  }

  /** Cuts all that is left. */
  close(): void {
    clearInterval(this.sweeper)
    this.server.close()
    this.proxyHeaders?.close()
    for (const socket of this.arriving) socket.destroy()
    for (const relay of this.relays) relay.close()
  }

  private accept(client: Socket): void {
    this.arriving.add(client)
    client.on('error', () => {})
    client.once('close', () => this.arriving.delete(client))
    const { serverNames, pool, gateway } = this.options
    if (serverNames === null) {
      this.serve(client, pool)
      return
    }
    readPrologue(client, {
      // What is no TLS may still have a pool.
      parse: (bytes) => {
        const parsed = parseClientHello(bytes)
        return parsed.state === 'invalid' ? { state: 'done' as const, serverName: null } : parsed
      },
      taken: () => 0,
      withinMs: gateway.limits.handshakeMs,
      failed: (reason) => this.refuse(client, `no TLS ClientHello: ${reason}`),
      done: ({ serverName }) => {
        const wanted = serverName === null ? pool : (matchServerName(serverNames, serverName) ?? pool)
        if (wanted === null) {
          this.refuse(client, serverName === null ? 'no server name' : `no pool for ${serverName}`)
        } else this.serve(client, wanted)
      },
    })
  }

  private serve(client: Socket, pool: string | null): void {
    this.connect(client, pool!).catch((error: unknown) => {
      if (error instanceof EvenkeelError) {
        this.refuse(client, error.message)
        return
      }
      client.resetAndDestroy()
      this.options.onError(error)
    })
  }

  /** Throws what keeps the client from being served. */
  private async connect(client: Socket, pool: string): Promise<void> {
    const { gateway } = this.options
    const address = peerAddress(client)
    if (!gateway.canAssign(pool)) await gateway.waitForNode(pool)
    const shown = { address, query: '', headers: {} }
    const tried = new Set<UpstreamEntry>()
    while (tried.size < triesMost && !client.destroyed) {
      const entry = gateway.choose(pool, null, shown, tried) as UpstreamEntry | null
      if (entry === null) break
      tried.add(entry)
      entry.dialling++
      try {
        const upstream = await this.dial(entry, client)
        if (upstream === null) continue
        this.join(client, upstream, entry, address)
        return
      } finally {
        entry.dialling--
      }
    }
    if (client.destroyed) return
    throw new EvenkeelError('BAD_GATEWAY', `no upstream of pool ${pool} takes a connection`)
  }

  /** Resolves null when another upstream is to be tried, or nobody any more. */
  private async dial(entry: UpstreamEntry, client: Socket): Promise<Socket | null> {
    const { gateway } = this.options
    const left = new AbortController()
    const abort = () => left.abort()
    client.once('close', abort)
    const askedAt = gateway.now()
    try {
      const { upstreamDialMs } = gateway.limits
      const upstream = await dialTcp(entry, client, upstreamDialMs, left.signal).catch(() => null)
      if (upstream === null) {
        if (!left.signal.aborted) entry.report('connect-failed')
        return null
      }
      entry.answered(gateway.now() - askedAt, gateway.now())
      const taken = await isTaken(client, upstream)
      if (taken && !client.destroyed) {
        entry.report('ok')
        return upstream
      }
      upstream.destroy()
      if (!taken) entry.report('broken')
      return null
    } finally {
      client.off('close', abort)
    }
  }

  private join(client: Socket, upstream: Socket, entry: UpstreamEntry, address: string): void {
    const relay = new TcpRelay(client, upstream, (ended) => this.relays.delete(ended))
    this.relays.add(relay)
    this.arriving.delete(client)
    relay.begin(this.options.gateway.upstreams!.openTcpSession(entry, address, relay))
  }

  private refuse(client: Socket, reason: string): void {
    const address = peerAddress(client)
    client.resetAndDestroy()
    this.options.onRefused(reason, address)
  }
}
