import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Operator } from '../gateway/operator.ts'
import type { Turn } from '../gateway/turn.ts'
import { bearerToken, isSameSecret } from '../link/token.ts'
import { enginePath } from '../protocol/engine-paths.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { checkLocalRequest, isLoopbackHost } from './access.ts'
import { apiPrefix, createApi } from './api.ts'
import type { ConfigControl } from './config-api.ts'
import { createEventStreams, type EventStreamOptions } from './event-stream.ts'
import { send, sendJson, sendProblem } from './http.ts'
import type { AdminLogger } from './logger.ts'
import type { Metrics } from './metrics.ts'
import { landingPage } from './page.ts'
import type { StaticFile } from './pages.ts'
import { Peers } from './peers.ts'
import { methodNotAllowed, splitTarget } from './router.ts'
import type { Stats } from './stats.ts'

export interface InternalListenerOptions {
  operator: Operator
  turn: Turn
  /** null: no token; then only local callers are served. */
  adminToken: string | null
  metrics: Pick<Metrics, 'contentType' | 'render'>
  stats: Stats
  logger: AdminLogger
  /** The built dashboard by path. Without it `/` says what there is. */
  pages?: ReadonlyMap<string, StaticFile>
  /** Where the caller will listen; without a token it must be a loopback address. */
  listenHost: string
  /** Answers what another gateway forwards to `/socket.io/`, `/engine.io/` or `/sse/…`; it has the admin token. */
  forwarded?: (request: IncomingMessage, response: ServerResponse) => void
  /** Default: the operator's own readiness. */
  readyz?: () => { ready: boolean; reasons: string[] }
  /** Default: none, and no calls for it. */
  config?: ConfigControl
  /** Bounds of `GET /api/v1/events`. */
  events?: EventStreamOptions
}

type Handler = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>

/**
 * The server of the internal listener: admin API, metrics, health. It does not listen yet and leaves
 * upgrades to whoever listens for `upgrade`. Event streams stay open until their client leaves, so stop
 * it with `close()` and `closeAllConnections()`.
 * Throws CONFIG_INVALID when it has no token and `listenHost` is not loopback.
 */
export function createInternalListener(options: InternalListenerOptions): Server {
  const { operator, turn, logger } = options
  assertTokenOrLoopback(options)
  const authorize = createAuthorization(options.adminToken)
  const handle = createHandler(options)
  const server = createServer(
    {
      maxHeaderSize: operator.limits.headerBytes,
      headersTimeout: operator.limits.handshakeMs,
      requestTimeout: operator.limits.handshakeMs,
      connectionsCheckingInterval: 1000,
    },
    (request, response) => {
      setCommonHeaders(response)
      // One connection may break at any moment; that must reach neither the log as an error nor the process.
      response.on('error', (error) => logger.debug({ err: error }, 'admin response broke off'))
      const begin = () =>
        void serve(
          { turn, authorize, handle, headerCount: operator.limits.headerCount },
          request,
          response,
        ).catch((error: unknown) => {
          reportUnexpected(logger, error, request)
          sendProblem(response, error)
        })
      // Behind a request that is not answered yet it has no connection, and would not hear that this one has ended.
      if (response.socket === null) response.once('socket', begin)
      else begin()
    },
  )
  // Node drops the headers beyond its own count in silence, an Origin perhaps; serve() counts and refuses.
  server.maxHeadersCount = 0
  return server
}

function assertTokenOrLoopback({ adminToken, listenHost }: InternalListenerOptions): void {
  if (adminToken === '') throw new EvenkeelError('CONFIG_INVALID', 'EVENKEEL_ADMIN_TOKEN is empty.')
  if (adminToken !== null || isLoopbackHost(listenHost)) return
  throw new EvenkeelError(
    'CONFIG_INVALID',
    `The internal listener would be open to the network (${listenHost}) without EVENKEEL_ADMIN_TOKEN. ` +
      'Set it, or listen on 127.0.0.1.',
  )
}

async function serve(
  by: { turn: Turn; authorize: ReturnType<typeof createAuthorization>; handle: Handler; headerCount: number },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    assertHeaders(request.rawHeaders, by.headerCount)
    by.authorize(splitTarget(request.url ?? '/').path, request)
    // Sessions go on between what was read of a call and its work.
    await new Promise<void>((resolve) => by.turn.next(resolve))
    await by.handle(request, response)
  } catch (error) {
    if (!(error instanceof EvenkeelError)) throw error
    sendProblem(
      response,
      error,
      error.code === 'UNAUTHORIZED' ? { 'www-authenticate': 'Bearer realm="evenkeel"' } : {},
    )
  }
}

/** Throws HEADERS_TOO_LARGE or BAD_REQUEST. */
function assertHeaders(rawHeaders: string[], headerCount: number): void {
  if (rawHeaders.length / 2 > headerCount) {
    throw new EvenkeelError('HEADERS_TOO_LARGE', `Send at most ${headerCount} headers.`)
  }
  const hosts = rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === 'host').length
  if (hosts > 1) throw new EvenkeelError('BAD_REQUEST', 'Send one Host header.')
}

/** What other gateways send here for their clients. */
function isForwarded(path: string): boolean {
  return enginePath(path) !== null || path.startsWith('/sse/')
}

/** Throws UNAUTHORIZED or FORBIDDEN. */
export function createAuthorization(
  adminToken: string | null,
): (path: string, request: IncomingMessage) => void {
  if (adminToken === null) {
    return (_path, request) => {
      const verdict = checkLocalRequest(request.headers)
      if (!verdict.allowed) throw new EvenkeelError('FORBIDDEN', verdict.detail)
    }
  }
  return (path, request) => {
    if (!isProtected(path) || isSameSecret(bearerToken(request.headers.authorization), adminToken)) return
    throw new EvenkeelError(
      'UNAUTHORIZED',
      'Send the admin token: "Authorization: Bearer <EVENKEEL_ADMIN_TOKEN>".',
    )
  }
}

function isProtected(path: string): boolean {
  return path === '/metrics' || isForwarded(path) || isApi(path)
}

function isApi(path: string): boolean {
  return path === apiPrefix || path.startsWith(`${apiPrefix}/`)
}

function createHandler(options: InternalListenerOptions): Handler {
  const { operator, metrics, logger, readyz = () => operator.readiness() } = options
  const api = createApi({
    operator,
    stats: options.stats,
    peers: new Peers(operator, options.adminToken),
    events: createEventStreams(operator, logger, options.events),
    config: options.config ?? null,
    onError: (error, request) => reportUnexpected(logger, error, request),
  })
  const { pages: files = new Map<string, StaticFile>() } = options
  const pages = new Map<string, (response: ServerResponse) => void | Promise<void>>([
    ['/healthz', (response) => sendJson(response, 200, { status: 'ok', gateway: operator.gatewayId })],
    [
      '/readyz',
      (response) => {
        const { ready, reasons } = readyz()
        sendJson(response, ready ? 200 : 503, { ready, reasons })
      },
    ],
    ['/metrics', async (response) => send(response, 200, metrics.contentType, await metrics.render())],
    ['/', (response) => send(response, 200, 'text/html; charset=utf-8', landingPage(operator.gatewayId))],
  ])
  return (request, response) => {
    const { path } = splitTarget(request.url ?? '/')
    if (isApi(path)) return api(request, response)
    if (isForwarded(path) && options.forwarded !== undefined) return options.forwarded(request, response)
    const file = files.get(path)
    const page = file === undefined ? pages.get(path) : (to: ServerResponse) => sendFile(to, file)
    if (page === undefined) throw new EvenkeelError('NOT_FOUND', 'There is nothing at this path.')
    if (request.method === 'GET' || request.method === 'HEAD') return page(response)
    sendProblem(response, ...methodNotAllowed(['GET']))
  }
}

function sendFile(response: ServerResponse, { type, content, immutable }: StaticFile): void {
  if (immutable) response.setHeader('cache-control', 'public, max-age=31536000, immutable')
  send(response, 200, type, content)
}

function setCommonHeaders(response: ServerResponse): void {
  response.setHeader('cache-control', 'no-store')
  response.setHeader('x-content-type-options', 'nosniff')
  response.setHeader('x-frame-options', 'DENY')
  response.setHeader('referrer-policy', 'no-referrer')
  response.setHeader(
    'content-security-policy',
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  )
}

function reportUnexpected(logger: AdminLogger, error: unknown, request: IncomingMessage): void {
  if (request.destroyed && !request.complete) {
    logger.debug({ err: error }, 'admin caller left before its request was complete')
    return
  }
  logger.error(
    { err: error, method: request.method, path: request.url?.split('?')[0] },
    'admin request failed',
  )
}
