import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo, Server, Socket } from 'node:net'
import { hostname } from 'node:os'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { checkLocalRequest } from '../admin/access.ts'
import { createAuthorization, createInternalListener } from '../admin/internal-listener.ts'
import { createMetrics } from '../admin/metrics.ts'
import { readPages } from '../admin/pages.ts'
import { createStats } from '../admin/stats.ts'
import type { GatewayEntry } from '../cluster/entry.ts'
import type { ClusterMember } from '../cluster/member.ts'
import { MemoryCluster } from '../cluster/memory.ts'
import { OverloadWatch } from '../edge/admission/overload-watch.ts'
import { requireProxyHeaders } from '../edge/proxy-headers.ts'
import { createPublicListener } from '../edge/public-listener.ts'
import { createSecureServer } from '../edge/tls/secure-server.ts'
import { probeUpstream } from '../edge/upstream/probe.ts'
import { Directory } from '../gateway/directory.ts'
import { Gateway, type GatewayRules } from '../gateway/gateway.ts'
import { GatewayDrain } from '../gateway/gateway-drain.ts'
import { LinkedNode } from '../gateway/linked-node.ts'
import type { Operator, OperatorEvent } from '../gateway/operator.ts'
import { OperatorView } from '../gateway/operator-view.ts'
import type { RunService } from '../gateway/run-types.ts'
import { createLinkAcceptor } from '../link/accept.ts'
import { enginePath } from '../protocol/engine-paths.ts'
import { EvenkeelError, statusOf } from '../protocol/errors.ts'
import { defaultLimits } from '../protocol/limits.ts'
import { identifications } from './auth-settings.ts'
import type { GatewayConfig, GatewayTokens } from './config-schema.ts'
import { edgeSettings, warnOfPersistence } from './edge-settings.ts'
import { warnOfDescriptors } from './limits-settings.ts'
import type { Logger } from './logger.ts'
import { refusalOfOwn } from './own-listeners.ts'
import { commonRules, rulesByPool } from './pool-rules.ts'
import { proxyHeadersOf } from './proxy-protocol.ts'
import { refusalLog } from './refusal-log.ts'
import { type ConfigOrigin, type ParentConfig, RunningConfig } from './running-config.ts'
import { tcpListeners, tcpOnlyPools } from './tcp-listeners.ts'
import { ListenerTls } from './tls.ts'
import { createTracing } from './tracing.ts'
import { onlyUpstreams, upstreamPools, upstreamRules } from './upstream-pools.ts'

export interface RunningGateway {
  readonly operator: Operator
  /** What it runs with, and how that is replaced. */
  readonly configuration: RunningConfig
  readonly runs: RunService
  readonly publicPort: number
  readonly internalPort: number
  /** Of `tcp`, in its order. */
  readonly tcpPorts: readonly number[]
  /**
   * Not ready and without a public listener from now on; clients leave, spread over `limits.gatewayDrainMs`, and what upstreams are
   * answering is waited for, at most `limits.answerDrainMs`.
   */
  leave(): Promise<void>
  /** Closes what is left at once: clients, links, listeners. */
  close(): Promise<void>
}

/** Answers requests at the public listener that are none of the gateway's own; false: nor of this. */
export type Extra = (request: IncomingMessage, response: ServerResponse) => Promise<boolean>

/** From `src` and from `dist`, where the sources have been compiled to. */
const dashboardFolder = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../../dist/dashboard' : '../../dashboard', import.meta.url),
)

/** Time for close frames to reach clients and links before their sockets are cut. */
const lastWordsMs = 200
/** Time for the last spans to leave. */
const tracesMs = 2_000

/** Wires one gateway together and listens. `origin`: what its configuration can be read from again. Throws what `listen` throws, with nothing left open. */
export async function startGateway(
  config: GatewayConfig,
  tokens: GatewayTokens,
  logger: Logger,
  extra: Extra | null = null,
  origin: ConfigOrigin | ParentConfig | null = null,
): Promise<RunningGateway> {
  const instance = randomBytes(12).toString('base64url')
  const id = config.gatewayId ?? newGatewayId()
  // Before anything is open that would have to be closed.
  const { tracing, flush } = await createTracing(config.tracing)
  const publicTls = await ListenerTls.open('public', config, logger)
  const internalTls = await ListenerTls.open('internal', config, logger)
  const tls = [publicTls, internalTls].filter((one) => one !== null)
  const cluster = await joinCluster(config, logger)
  // One object for all who look at it: a limit that changes is changed in place.
  const limits = { ...defaultLimits, ...config.limits }
  const fallbackSecret = randomBytes(32)
  warnOfPersistence(config, tokens, logger)
  const directory = new Directory({
    pools: upstreamPools(onlyUpstreams(config), tcpOnlyPools(config)),
    shared: cluster.upstreams,
    probe: probeUpstream,
    refuse: (address) => refusalOfOwn(address, ownPorts(), cluster.registry.entries()),
    isTaken: (id) => gateway.nodes.get(id) instanceof LinkedNode,
    onProblem: (problem) => logger.warn({ code: problem.code }, problem.message),
  })
  const gateway = new Gateway({
    id,
    limits,
    ...gatewayRules(config),
    cluster,
    upstreams: { source: directory, pools: upstreamRules(onlyUpstreams(config)) },
    tracing,
  })
  const drain = new GatewayDrain(gateway, turnAway)
  const operator = new OperatorView(gateway, drain, directory)
  operator.onEvent((event) => logEvent(logger, event))
  const links = createLinkAcceptor({
    gatewayId: gateway.id,
    instance,
    nodeToken: tokens.nodeToken,
    limits: gateway.limits,
    now: gateway.now,
    atTurnEnd: (step) => gateway.turn.write(step),
    onNode: (hello, link) => gateway.nodeJoined(hello, link),
    onRefused: (reason, address) => logger.warn({ reason, address }, 'link refused'),
  })
  const identify = identifications(logger)
  const settings = { current: edgeSettings(config, tokens, fallbackSecret, identify) }
  const clients = createPublicListener({
    gateway,
    settings,
    peerToken: tokens.adminToken,
    extra,
    deflate: config.websocket.deflate === 'off' ? null : config.websocket.deflate,
    tls: publicTls,
    readiness: () => readiness((one) => one.hints()),
    onError: (error) => logger.error({ err: error }, 'public request failed'),
  })
  warnOfDescriptors(config, logger)
  const overload = new OverloadWatch({
    rules: () => settings.current.overload,
    connections: () => clients.connections(),
    changed: (change, measures) => gateway.pressed(change, measures),
  })
  const proxies = proxyHeadersOf(config.public, refusalLog(logger, 'public'))
  const headers = proxies && requireProxyHeaders(clients.server, () => limits.handshakeMs, proxies)
  const tcp = tcpListeners(config, gateway, logger)
  const configuration = new RunningConfig({ gatewayId: id, config, tokens, logger, origin, apply })
  const metrics = createMetrics(operator, configuration, { tls, http2: clients.http2 })
  const stats = createStats(operator)
  const internal = createInternalListener({
    operator,
    turn: gateway.turn,
    adminToken: tokens.adminToken,
    metrics,
    stats,
    pages: readPages(dashboardFolder),
    logger,
    config: configuration,
    listenHost: config.internal.host,
    readyz: () => readiness((one) => one.problems()),
    forwarded: (request, response) => clients.forwarded.forwarded(request, response),
  })
  const { handshakeMs } = gateway.limits
  const internalFront =
    internalTls === null
      ? internal
      : createSecureServer({ ...internalTls, handshakeMs, http1: internal, http2: null })
  const authorize = createAuthorization(tokens.adminToken)
  internal.on('upgrade', (request: IncomingMessage, socket: Duplex, head) => {
    // Node has taken its own listener away; without one a reset by the peer would end the process.
    socket.on('error', () => socket.destroy())
    const engine = enginePath(request.url?.split('?', 1)[0] ?? '')
    if (engine !== null) {
      try {
        authorize(engine, request)
        clients.forwarded.forwardedUpgrade(request, socket as Socket, head)
      } catch (error) {
        socket.end(`HTTP/1.1 ${statusOf(error as EvenkeelError)} Refused\r\nConnection: close\r\n\r\n`)
      }
      return
    }
    const refusal = refuseLinkUpgrade(request, tokens.nodeToken)
    if (refusal === null) links.upgrade(request, socket, head)
    else socket.end(`HTTP/1.1 ${refusal}\r\nConnection: close\r\n\r\n`)
  })

  function readiness(ofTls: (one: ListenerTls) => string[]): { ready: boolean; reasons: string[] } {
    const { ready, reasons } = operator.readiness()
    return { ready, reasons: [...reasons, ...tls.flatMap(ofTls)] }
  }

  function ownPorts(): number[] {
    const servers = [internalFront, clients.server, ...tcp.map(({ server }) => server)]
    const listening = servers.filter(({ listening }) => listening).map(portOf)
    return [config.internal.port, config.public.port, ...config.tcp.map(({ port }) => port), ...listening]
  }

  /** Throws with nothing changed. */
  async function apply(next: GatewayConfig, nextTokens: GatewayTokens): Promise<void> {
    const wanted = edgeSettings(next, nextTokens, fallbackSecret, identify)
    const upstreams = onlyUpstreams(next)
    const conflict = gateway.kindConflict(new Set(Object.keys(upstreams)))
    if (conflict !== null) throw new EvenkeelError('CONFLICT', conflict)
    directory.configure(upstreamPools(upstreams, tcpOnlyPools(next)))
    gateway.upstreams!.configure(upstreamRules(upstreams))
    const isBounded = isDeepStrictEqual(limits, { ...limits, ...next.limits })
    Object.assign(limits, next.limits)
    gateway.configure(gatewayRules(next))
    if (!isBounded) clients.limitsChanged()
    logger.level = next.log.level
    // Clients are led to upstreams that were looked at.
    await lookAtUpstreams(next)
    settings.current = wanted
  }

  async function lookAtUpstreams(wanted: GatewayConfig): Promise<void> {
    if (Object.keys(onlyUpstreams(wanted)).length === 0) return
    if (!directory.started) directory.start()
    await directory.settled()
  }

  function announce(state: GatewayEntry['state']): Promise<boolean> {
    const internalUrl = config.internalUrl ?? urlOf(config.internal, portOf(internalFront))
    const { startedAt } = gateway
    return cluster.registry.announce({ kind: 'gateway', id, instance, internalUrl, startedAt, state })
  }

  async function turnAway(): Promise<void> {
    clients.stopAccepting()
    for (const listener of tcp) listener.stopAccepting()
    await announce('draining').catch((error: unknown) =>
      logger.warn({ err: error }, 'the cluster was not told of the drain'),
    )
  }

  async function leave(): Promise<void> {
    await drain.begin().left
    await clients.answered(gateway.limits.answerDrainMs)
  }

  async function close(): Promise<void> {
    overload.close()
    gateway.stop()
    directory.close()
    void cluster.registry.withdraw()
    // What the nodes are to know of their clients leaves at the end of the turn.
    await new Promise(setImmediate)
    clients.server.close()
    internalFront.close()
    for (const { certificates } of tls) certificates.close()
    links.close()
    await new Promise((resolve) => setTimeout(resolve, lastWordsMs))
    headers?.close()
    clients.close()
    for (const listener of tcp) listener.close()
    links.terminate()
    internal.closeAllConnections()
    metrics.close()
    stats.close()
    await cluster.close()
    await flush(tracesMs)
  }

  try {
    const internalPort = await listen(internalFront, config.internal)
    gateway.start()
    await lookAtUpstreams(config)
    // Who has clients is known to the others, and knows them: requests of one client may come to any of them.
    await announce('active')
    await cluster.registry.refresh()
    const reusePort = config.workers > 1
    const publicPort = await listen(clients.server, { ...config.public, reusePort })
    const tcpPorts: number[] = []
    for (const [index, { host, port }] of config.tcp.entries())
      tcpPorts.push(await listen(tcp[index]!.server, { host, port, reusePort }))
    return { operator, configuration, runs: gateway.runs, publicPort, internalPort, tcpPorts, leave, close }
  } catch (error) {
    await close()
    throw error
  }
}

function gatewayRules(config: GatewayConfig): GatewayRules {
  const { rebalance } = config
  return {
    policy: config.policy,
    rules: commonRules(config),
    pools: rulesByPool(config.pools),
    maxOverShare: config.persistence.maxOverShare,
    slowConsumer: config.slowConsumer,
    history: config.channels.history,
    rebalance: { ...rebalance, maxMovesPerRound: rebalance.maxMovesPerRound ?? null },
  }
}

export function newGatewayId(): string {
  return `${hostname()}-${randomBytes(4).toString('hex')}`
}

async function joinCluster({ redis, limits }: GatewayConfig, logger: Logger): Promise<ClusterMember> {
  if (redis === undefined) return new MemoryCluster({ limits }).join()
  const { joinRedis } = await import('../cluster/redis.ts')
  const onProblem = (problem: EvenkeelError) => logger.warn({ code: problem.code }, problem.message)
  return joinRedis({ url: redis, limits, onProblem })
}

function urlOf({ host, tls }: GatewayConfig['internal'], port: number): string {
  const address = host === '0.0.0.0' || host === '::' ? hostname() : host
  return `${tls === undefined ? 'ws' : 'wss'}://${address.includes(':') ? `[${address}]` : address}:${port}`
}

async function listen(
  server: Server,
  where: { host: string; port: number; reusePort?: boolean },
): Promise<number> {
  server.listen({ ...where, backlog: 4096 })
  await once(server, 'listening')
  return portOf(server)
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}

function refuseLinkUpgrade(request: IncomingMessage, nodeToken: string | null): string | null {
  if (request.url !== '/link') return '404 Not Found'
  if (nodeToken !== null) return null
  return checkLocalRequest(request.headers).allowed ? null : '403 Forbidden'
}

function logEvent(logger: Logger, event: OperatorEvent): void {
  if (event.type === 'migration' || event.type === 'continued') logger.debug(event, event.type)
  else if (
    event.type === 'node-down' ||
    event.type === 'session-lost' ||
    event.type === 'node-suspect' ||
    event.type === 'overload'
  )
    logger.warn(event, event.type)
  else logger.info(event, event.type)
}
