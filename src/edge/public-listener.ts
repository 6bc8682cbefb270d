import { createServer, type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import { Server as NetServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Gateway } from '../gateway/gateway.ts'
import { type EnginePath, enginePath } from '../protocol/engine-paths.ts'
import { EvenkeelError, toProblem } from '../protocol/errors.ts'
import { Admission } from './admission/admission.ts'
import { Door } from './admission/door.ts'
import { Refusal, sendAway } from './admission/refusal.ts'
import { noteClient } from './client-view.ts'
import type { DeflateSettings } from './deflate.ts'
import { EngineIoEdge } from './engine-io.ts'
import { Http2Front } from './http2/front.ts'
import { admit, identify } from './identity/admission.ts'
import { closesInstead } from './identity/refusal.ts'
import { identityOf } from './identity/sender.ts'
import { cutSoon } from './last-words.ts'
import { LlmEdge } from './llm/llm-edge.ts'
import { OpenAnswers } from './open-answers.ts'
import { checkOrigin, checkRequest, splitTarget, whenItsTurn } from './request-meta.ts'
import { RequestTraces } from './request-trace.ts'
import { RunGap, RunsEdge } from './runs.ts'
import { corsHeaders, SseEdge } from './sse.ts'
import { type LiveSettings, type Target, targetOf } from './target.ts'
import { createSecureServer, type PublicTls } from './tls/secure-server.ts'
import { isTunnel, TunnelEdge } from './tunnel.ts'
import { Turnstile } from './turnstile.ts'
import { UpstreamEdge } from './upstream/upstream-edge.ts'
import { WebSocketEdge } from './websocket.ts'

export interface PublicListenerOptions {
  gateway: Gateway
  settings: LiveSettings
  /** See `EngineIoEdge`. */
  peerToken: string | null
  /** Asked for what is none of the paths here; false: it has not answered. */
  extra: ((request: IncomingMessage, response: ServerResponse) => Promise<boolean>) | null
  /** null: messages of WebSockets are not compressed. */
  deflate: DeflateSettings | null
  /** null: connections are not encrypted, and speak HTTP/1.1. */
  tls: PublicTls | null
  readiness(): { ready: boolean; reasons: string[] }
  /** An error that is ours, not the client's. */
  onError(error: unknown): void
}

export interface PublicListener {
  /** What is to listen. */
  readonly server: NetServer
  /** null: only with TLS. */
  readonly http2: Http2Front | null
  /** For requests that other gateways send over the internal listener, once they are known to be theirs. */
  readonly forwarded: Pick<EngineIoEdge, 'forwarded' | 'forwardedUpgrade'>
  /** The gateway's limits were changed in place. */
  limitsChanged(): void
  /** Closes the listening socket. Connections go on; requests over those that are kept alive are still answered. */
  stopAccepting(): void
  /** Resolves when nothing of upstreams is being answered any more, at the latest after this time. */
  answered(withinMs: number): Promise<void>
  /** TCP connections that are open now. */
  connections(): number
  /** Stops timers and closes what is still open. */
  close(): void
}

/** Seconds after which a client that was refused should try again; jittered, so that they do not come back as one. */
const retryAfterSeconds = { min: 1, spread: 5 }

/** The listener that clients see: `/ws`, `/sse`, `/socket.io/`, `/engine.io/`, `/runs`, health. */
export function createPublicListener(options: PublicListenerOptions): PublicListener {
  const { gateway } = options
  const { limits } = gateway
  const admission = new Admission(options)
  const turnstile = new Turnstile(gateway.turn)
  const websocket = new WebSocketEdge({ ...options, admission, turnstile })
  const sse = new SseEdge({ ...options, admission })
  const engines: Record<EnginePath, EngineIoEdge> = {
    '/socket.io/': new EngineIoEdge('socket.io', { ...options, admission, turnstile }),
    '/engine.io/': new EngineIoEdge('engine.io', { ...options, admission, turnstile }),
  }
  const upstreams = new UpstreamEdge({ gateway, websocket })
  const tunnel = new TunnelEdge({ ...options, admission })
  const runs = new RunsEdge(options)
  const llm = new LlmEdge(options)
  const answers = new OpenAnswers()
  const traces = new RequestTraces(gateway.tracing)
  const server = createServer({
    maxHeaderSize: limits.headerBytes,
    headersTimeout: limits.handshakeMs,
    // How long a body may take is for those to say who read it.
    requestTimeout: 0,
    connectionsCheckingInterval: 1_000,
    noDelay: true,
    keepAlive: true,
    // Clients offer h2c and others beside what they ask for, and take an answer in HTTP/1.1 (RFC 9110 §7.8).
    shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === 'websocket',
  })
  // Node drops headers beyond its own count silently; ours counts all of them and says so.
  server.maxHeadersCount = 0

  /** Of each connection the last one. */
  const lastAnswers = new WeakMap<Duplex, ServerResponse>()

  server.on('request', (request, response) => {
    lastAnswers.set(request.socket, response)
    whenItsTurn(response, limits.pipelinedRequests, () =>
      answerErrors(handle(request, response), request, response),
    )
  })
  server.on('upgrade', (request, socket: Duplex, head) => {
    // Node has taken its own listener away; without one a reset by the peer would end the process.
    socket.on('error', destroy)
    // It would be answered in the middle of what goes on.
    if (lastAnswers.get(socket)?.writableFinished === false) {
      socket.destroy()
      return
    }
    upgrade(request, socket as Socket, head).then(
      () => socket.off('error', destroy),
      (error) => {
        traces.failed(request, error)
        if (closesInstead(request, error)) {
          websocket.refuse(request, socket as Socket, head, error)
          return
        }
        if (!(error instanceof EvenkeelError)) options.onError(error)
        refuse(socket, error)
      },
    )
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    cutSoon(socket)
    if (!socket.writable) return
    socket.end(`HTTP/1.1 ${statusOfBroken(error.code)}\r\nConnection: close\r\n\r\n`)
  })

  const http2 =
    options.tls === null
      ? null
      : new Http2Front({ limits, onRequest: (...exchange) => server.emit('request', ...exchange) })
  const front =
    options.tls === null
      ? server
      : createSecureServer({ ...options.tls, handshakeMs: limits.handshakeMs, http1: server, http2 })
  const door = new Door(front, { ...options, refused: (reason) => admission.refused(reason) })

  /** What costs nothing is looked at before anybody's signature is. */
  async function judge(request: IncomingMessage, answered: ServerResponse | Socket): Promise<Target> {
    const { current } = options.settings
    noteClient(request, current.trust)
    const first = targetOf(request, current)
    admission.admit(request, answered, first)
    traces.begin(request, answered, first)
    await identify(request, current, gateway.counters.auth)
    const target = await admit(request, identityOf(request) === null ? first : targetOf(request, current))
    traces.judged(request, target)
    const asked = admission.admitUser(request, answered, target)
    if (asked !== null) await asked
    return target
  }

  async function upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    checkRequest(request, limits)
    await turnstile.enter()
    if (socket.destroyed) return
    const target = await judge(request, socket)
    if (socket.destroyed) return
    if (target.isProxied) {
      await upstreams.upgrade(request, socket, head, target)
      return
    }
    const path = localize(request, target)
    const engine = enginePath(path)
    if (engine !== null) {
      await engines[engine].upgrade(request, socket, head, target)
      return
    }
    if (path !== '/ws') throw new EvenkeelError('NOT_FOUND', `no WebSocket at ${path.slice(0, 64)}; try /ws`)
    await websocket.upgrade(request, socket, head, target)
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    checkRequest(request, limits)
    const target = await judge(request, response)
    if (response.destroyed) return
    if (target.isProxied) answers.add(response)
    const task = llm.taskOf(request, target)
    if (task !== null) {
      sayBeside(response, target)
      limitBody(request, limits.upstreamReadMs)
      await llm.request(request, response, task, target)
      return
    }
    if (target.isProxied) {
      await upstreams.request(request, response, target)
      return
    }
    const path = localize(request, target)
    limitBody(request, limits.handshakeMs)
    const engine = enginePath(path)
    if (engine !== null) {
      await engines[engine].request(request, response, target)
    } else if (path === '/runs' || path.startsWith('/runs/')) {
      sayBeside(response, target)
      await runs.request(request, response, target)
    } else if (isTunnel(path)) {
      if (isPreflight(request, response, target, 'POST', 'authorization')) return
      await tunnel.request(request, response, target)
    } else if (path === '/sse') {
      if (isPreflight(request, response, target, 'GET', 'authorization, last-event-id')) return
      allow(request, 'GET')
      await turnstile.enter()
      if (!response.destroyed) await sse.open(request, response, target)
    } else if (isSseSession(path)) {
      const headers = 'authorization, content-type, idempotency-key'
      if (isPreflight(request, response, target, 'POST, PUT, DELETE', headers)) return
      allow(request, 'POST', 'PUT', 'DELETE')
      await sse.command(request, response, path.slice(ssePrefix.length), target)
    } else if (path === '/healthz') {
      allow(request, 'GET')
      json(response, 200, { status: 'ok' })
    } else if (path === '/readyz') {
      allow(request, 'GET')
      const readiness = options.readiness()
      json(response, readiness.ready ? 200 : 503, readiness)
    } else if (path === '/ws') {
      throw new EvenkeelError('UPGRADE_REQUIRED', 'this is a WebSocket endpoint')
    } else if (options.extra === null || !(await options.extra(request, response))) {
      throw new EvenkeelError(
        'NOT_FOUND',
        'nothing here; clients connect to /ws, /sse, /socket.io/, /engine.io/ or /runs',
      )
    }
  }

  /** Answers what browsers ask before a request from another origin. Throws FORBIDDEN. */
  function isPreflight(
    request: IncomingMessage,
    response: ServerResponse,
    { settings }: Target,
    methods: string,
    headers: string,
  ): boolean {
    if (request.method !== 'OPTIONS') return false
    checkOrigin(request, settings.allowedOrigins)
    response.writeHead(204, {
      ...corsHeaders(request),
      'access-control-allow-methods': methods,
      'access-control-allow-headers': headers,
      'access-control-max-age': '600',
    })
    response.end()
    return true
  }

  /** What another gateway has checked and sent here. */
  async function forwarded(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path] = splitTarget(request.url!)
    if (isTunnel(path)) {
      await tunnel.forwarded(request, response)
      return
    }
    if (!isSseSession(path)) {
      engineOf(request).forwarded(request, response)
      return
    }
    allow(request, 'POST', 'PUT', 'DELETE')
    await sse.forwarded(request, response, path.slice(ssePrefix.length))
  }

  function answerErrors(done: Promise<void>, request: IncomingMessage, response: ServerResponse): void {
    done.catch((error) => {
      // A client that leaves in the middle of its request is no error of ours, and must not fill the log with one.
      const left = request.destroyed && !request.complete
      if (!(error instanceof EvenkeelError) && !left) options.onError(error)
      traces.failed(request, error)
      answer(request, response, error)
    })
  }

  /** Only for requests to their paths. */
  function engineOf(request: IncomingMessage): EngineIoEdge {
    return engines[enginePath(splitTarget(request.url!)[0])!]
  }

  return {
    server: front,
    http2,
    forwarded: {
      forwarded: (request, response) => answerErrors(forwarded(request, response), request, response),
      forwardedUpgrade: (request, socket, head) => engineOf(request).forwardedUpgrade(request, socket, head),
    },
    limitsChanged() {
      server.headersTimeout = limits.handshakeMs
      upstreams.limitsChanged()
    },
    stopAccepting() {
      // The HTTP server's own `close` would also end connections that are idle, and stop watching for slow requests.
      NetServer.prototype.close.call(front)
      http2?.leave()
    },
    answered: (withinMs) => answers.finished(withinMs),
    connections: () => door.open,
    close() {
      admission.close()
      websocket.close()
      tunnel.close()
      sse.close()
      websocket.terminate()
      for (const engine of Object.values(engines)) engine.close()
      llm.close()
      upstreams.close()
      http2?.close()
      server.closeAllConnections()
    },
  }
}

const ssePrefix = '/sse/'

/** Where the requests of one SSE session go. */
function isSseSession(path: string): boolean {
  return path.startsWith(ssePrefix)
}

/** From here on the request is as one to the default path of its protocol. Returns that path. */
function localize(request: IncomingMessage, { path, local }: Target): string {
  if (local !== path) request.url = local + request.url!.slice(path.length)
  return local
}

function sayBeside(response: ServerResponse, { headers }: Target): void {
  for (const [name, value] of headers) response.appendHeader(name, value)
}

/** A body that does not come in time costs the connection. */
function limitBody(request: IncomingMessage, withinMs: number): void {
  const { 'content-length': length, 'transfer-encoding': coding } = request.headers
  if (coding === undefined && (length === undefined || length === '0')) return
  const timer = setTimeout(() => {
    if (!request.complete) request.destroy()
  }, withinMs)
  request.once('close', () => clearTimeout(timer))
}

/** What is no request gets this status line. */
function statusOfBroken(code = ''): string {
  if (code === 'HPE_HEADER_OVERFLOW') return '431 Request Header Fields Too Large'
  return code === 'ERR_HTTP_REQUEST_TIMEOUT' ? '408 Request Timeout' : '400 Bad Request'
}

function destroy(this: Duplex): void {
  this.destroy()
}

function allow({ method = '' }: IncomingMessage, ...allowed: string[]): void {
  if (!allowed.includes(method)) throw new EvenkeelError('METHOD_NOT_ALLOWED', `use ${allowed.join(' or ')}`)
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function problemHeaders(error: unknown): Record<string, string> {
  const { status } = toProblem(error)
  return {
    'content-type': 'application/problem+json',
    ...(status === 503 || status === 429 ? { 'retry-after': String(retryAfter(error)) } : {}),
    ...(status === 401 ? { 'www-authenticate': 'Bearer' } : {}),
    ...(status === 426 ? { upgrade: 'websocket' } : {}),
    ...(error instanceof Refusal ? error.headers : {}),
  }
}

/** Seconds. */
function retryAfter(error: unknown): number {
  const { retryAfterMs } = error as { retryAfterMs?: number }
  if (retryAfterMs !== undefined) return Math.max(1, Math.ceil(retryAfterMs / 1_000))
  return retryAfterSeconds.min + Math.floor(Math.random() * retryAfterSeconds.spread)
}

function answer(request: IncomingMessage, response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const problem = toProblem(error)
  const cors = problem.status === 403 ? {} : corsHeaders(request)
  // What is left of the request is not read: the connection cannot be used again.
  const close = request.complete && !(error instanceof Refusal && error.closes) ? {} : { connection: 'close' }
  if (sendAway(request, response, error, cors)) return
  response
    // The reason too: one that could not be written may be there already.
    .writeHead(problem.status, STATUS_CODES[problem.status], { ...problemHeaders(error), ...cors, ...close })
    .end(JSON.stringify(error instanceof RunGap ? { ...problem, oldest: error.oldest } : problem))
}

function refuse(socket: Duplex, error: unknown): void {
  cutSoon(socket)
  if (!socket.writable) return
  const problem = toProblem(error)
  const body = JSON.stringify(problem)
  const headers = {
    ...problemHeaders(error),
    connection: 'close',
    'content-length': String(Buffer.byteLength(body)),
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.end(`HTTP/1.1 ${problem.status} ${problem.title}\r\n${lines.join('')}\r\n${body}`)
}
