import { isTcpUrl, parseUpstreamUrl } from '../core/net/upstream-url.ts'
import { TcpListener } from '../edge/tcp/tcp-listener.ts'
import type { Gateway } from '../gateway/gateway.ts'
import { mistake, type PlacedMistake } from './config-error.ts'
import type { GatewayConfig } from './config-schema.ts'
import type { Logger } from './logger.ts'
import { proxyHeadersOf, proxyProtocolMistakes } from './proxy-protocol.ts'
import { refusalLog } from './refusal-log.ts'
import { poolsOf as routedTo } from './route-rules.ts'
import { onlyUpstreams } from './upstream-pools.ts'

type Tcp = GatewayConfig['tcp'][number]

/** The listeners of `tcp`; they do not listen yet. */
export function tcpListeners(config: GatewayConfig, gateway: Gateway, logger: Logger): TcpListener[] {
  return config.tcp.map((tcp) => {
    const onRefused = refusalLog(logger, placeOf(tcp))
    return new TcpListener({
      gateway,
      pool: tcp.pool ?? null,
      serverNames: tcp.sni ?? null,
      idleMs: tcp.idleMs,
      maxConnections: tcp.maxConnections ?? null,
      proxyHeaders: proxyHeadersOf(tcp, onRefused),
      onRefused,
      onError: (error) => logger.error({ err: error }, 'tcp connection failed'),
    })
  })
}

/** Pools that take `tcp:` URLs: no request is ever sent there. */
export function tcpOnlyPools({ tcp, routes }: Pick<GatewayConfig, 'tcp' | 'routes'>): ReadonlySet<string> {
  const pools = new Set(tcp.flatMap(poolsOf))
  for (const route of routes) for (const pool of routedTo(route)) pools.delete(pool)
  return pools
}

/** What a schema of single values cannot say. */
export function tcpMistakes(config: GatewayConfig): PlacedMistake[] {
  const mistakes: PlacedMistake[] = []
  const upstreams = onlyUpstreams(config)
  const names = Object.keys(upstreams)
  for (const [index, listener] of config.tcp.entries()) {
    const place = ['tcp', index]
    mistakes.push(...proxyProtocolMistakes(place, listener))
    if (listener.pool === undefined && listener.sni === undefined)
      mistakes.push(mistake(place, 'expected pool, sni or both'))
    for (const pool of new Set(poolsOf(listener))) {
      if (!names.includes(pool)) {
        const known = names.join(', ') || 'there is none'
        mistakes.push(mistake(place, `expected one of pools (${known}), got "${pool}"`))
      } else if (upstreams[pool]!.migrate !== 'drain') {
        mistakes.push(
          mistake(
            ['pools', pool, 'migrate'],
            `tcp[${index}] leads here, and its connections cannot move; use drain`,
          ),
        )
      }
    }
    const other = portMistake(listener, index, config)
    if (other !== null) mistakes.push(mistake([...place, 'port'], other))
  }
  return [...mistakes, ...urlMistakes(config)]
}

/** `tcp:` URLs where something else is spoken. */
function urlMistakes(config: GatewayConfig): PlacedMistake[] {
  const tcpOnly = tcpOnlyPools(config)
  const mistakes: PlacedMistake[] = []
  for (const [name, { upstreams, dns }] of Object.entries(onlyUpstreams(config))) {
    if (dns?.scheme === 'tcp' && dns.type === 'A' && dns.port === undefined)
      mistakes.push(mistake(['pools', name, 'dns', 'port'], 'tcp has no port of its own'))
    if (tcpOnly.has(name)) continue
    const rule = `no listener of tcp leads to pool ${name}, or a route does, too`
    if (dns?.scheme === 'tcp') mistakes.push(mistake(['pools', name, 'dns', 'scheme'], rule))
    for (const [index, one] of upstreams.entries()) {
      const url = parseUpstreamUrl(typeof one === 'string' ? one : one.url)
      if (url !== null && isTcpUrl(url))
        mistakes.push(mistake(['pools', name, 'upstreams', index], `tcp: URL, but ${rule}`))
    }
  }
  return mistakes
}

function portMistake(listener: Tcp, index: number, config: GatewayConfig): string | null {
  const { port } = listener
  if (port === 0) return config.workers > 1 ? `${config.workers} workers share it; give it a number` : null
  const { public: clients, internal, workers } = config
  if (port === clients.port) return 'it is that of public'
  if (internal.port > 0 && port >= internal.port && port < internal.port + workers)
    return 'it is one of internal'
  const before = config.tcp.slice(0, index).findIndex((other) => overlap(other, listener))
  return before === -1 ? null : `it is that of tcp[${before}]`
}

function overlap(a: Tcp, b: Tcp): boolean {
  const isAny = ({ host }: Tcp) => host === '0.0.0.0' || host === '::'
  return a.port === b.port && (a.host === b.host || isAny(a) || isAny(b))
}

function poolsOf({ pool, sni = {} }: Tcp): string[] {
  return [...(pool === undefined ? [] : [pool]), ...Object.values(sni)]
}

function placeOf({ host, port }: Tcp): string {
  return `tcp ${host}:${port}`
}
