import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Dialect, dialectOf, refusalOf } from '../../core/llm/dialect.ts'
import { type Affinity, isChatId, parseGeneration } from '../../core/llm/request.ts'
import type { Route } from '../../core/route/match.ts'
import type { Gateway } from '../../gateway/gateway.ts'
import type { RelayedRun } from '../../gateway/relayed-run.ts'
import { EvenkeelError, statusOf } from '../../protocol/errors.ts'
import type { Identity } from '../identity/identity.ts'
import { readBody } from '../request-body.ts'
import { checkOrigin } from '../request-meta.ts'
import { RunResponse } from '../runs.ts'
import { splitChatPath, type Target } from '../target.ts'
import { LlmConnections } from './connections.ts'
import { Exchange, type ExchangeHost, type Generation } from './exchange.ts'

export interface LlmEdgeOptions {
  readonly gateway: Gateway
}

/** What a request asks of a language model. `resume`: the stream that a chat has now, if there is one. */
export type LlmTask =
  | { readonly type: 'generate'; readonly route: Route; readonly dialect: Dialect }
  | { readonly type: 'resume'; readonly route: Route; readonly chat: string }

const tickMs = 1_000

/** Routes that lead to language models: their streams are runs as well (docs/llm.md). */
export class LlmEdge implements ExchangeHost {
  readonly gateway: Gateway
  readonly connections = new LlmConnections()
  private readonly exchanges = new Set<Exchange>()
  private readonly ticker: NodeJS.Timeout

  constructor(options: LlmEdgeOptions) {
    this.gateway = options.gateway
    this.ticker = setInterval(() => {
      for (const exchange of [...this.exchanges]) exchange.tick()
    }, tickMs)
  }

  /** null: the request is for an ordinary proxy, or for nobody. */
  taskOf({ method }: IncomingMessage, { path, route }: Target): LlmTask | null {
    if (route?.protocol !== 'llm') return null
    if (method === 'POST') {
      const dialect = dialectAt(route, path)
      return dialect === null ? null : { type: 'generate', route, dialect }
    }
    const [, name] = (method === 'GET' && splitChatPath(path)) || []
    const chat = name === undefined ? null : decoded(name)
    return chat === null ? null : { type: 'resume', route, chat }
  }

  /** Throws what the client is to be answered. */
  async request(
    request: IncomingMessage,
    response: ServerResponse,
    task: LlmTask,
    { settings, pool, identity }: Target,
  ): Promise<void> {
    if (task.type === 'resume') {
      checkOrigin(request, settings.allowedOrigins)
      await this.resume(request, response, task, identity)
      return
    }
    try {
      await this.generate(request, response, task, pool, identity)
    } catch (error) {
      if (!(error instanceof EvenkeelError) || response.headersSent) throw error
      refuse(request, response, task.dialect, error)
    }
  }

  close(): void {
    clearInterval(this.ticker)
    for (const exchange of [...this.exchanges]) exchange.stop()
    this.connections.close()
  }

  // ExchangeHost

  started({ run }: RelayedRun, { label, request: { chat }, owner }: Generation): void {
    if (chat === null) return
    // Without it the chat cannot be resumed, and is answered as one that is idle.
    this.gateway.runs.label(labelOf(label, owner, chat), run).catch(() => {})
  }

  over(exchange: Exchange): void {
    this.exchanges.delete(exchange)
  }

  // Inside.

  private async generate(
    request: IncomingMessage,
    response: ServerResponse,
    { route, dialect }: LlmTask & { type: 'generate' },
    pool: string,
    identity: Identity | null,
  ): Promise<void> {
    const { gateway } = this
    const { affinity = null, mode = 'attached' } = route
    const body = await readBody(request, gateway.limits.llmRequestBytes)
    const { headers } = request
    const parsed = parseGeneration({
      header: (name) => headers[name]?.toString(),
      body: body.toString(),
      affinity: affinity as Affinity | null,
      alwaysStreams: dialect === 'ai-sdk',
    })
    const generation: Generation = {
      pool,
      label: labelPlace(route),
      dialect,
      request: parsed,
      body,
      durable: modeOf(request, mode) === 'durable',
      owner: ownerOf(request, identity),
      user: identity?.user ?? null,
    }
    if (!gateway.canAssign(pool)) await gateway.waitForNode(pool)
    if (response.destroyed) return
    const exchange = new Exchange(this, generation, request, response)
    this.exchanges.add(exchange)
    await exchange.begin()
  }

  /** For `useChat({ resume: true })`: 204 when the chat is idle, else all of its stream, and what follows. */
  private async resume(
    request: IncomingMessage,
    response: ServerResponse,
    { route, chat }: LlmTask & { type: 'resume' },
    identity: Identity | null,
  ): Promise<void> {
    const { runs, limits } = this.gateway
    const run = await runs.labelled(labelOf(labelPlace(route), ownerOf(request, identity), chat))
    const stream = run === null ? null : new RunResponse(request, response, run, limits, { ids: false })
    const isOver = run === null || (await hasEnded(this.gateway, run))
    if (isOver || stream === null) {
      RunResponse.nothing(request, response, run)
      return
    }
    const opened = await runs.openReader(run!, null, stream)
    if ('reader' in opened) stream.opened(opened.reader)
    else RunResponse.nothing(request, response, run)
  }
}

/** Chats of one route are known by it, whichever pool has answered; those of routes without a name by the pool. */
function labelPlace({ name, pool }: Route): string {
  return name ?? pool
}

/** A user's tokens come and go. No `Authorization` begins with a line feed. */
function ownerOf({ headers }: IncomingMessage, identity: Identity | null): string {
  return identity === null ? (headers.authorization ?? '') : `\n${identity.user}`
}

/** Who asks with other credentials does not get this chat. */
function labelOf(place: string, owner: string, chat: string): string {
  return createHash('sha256')
    .update(JSON.stringify([place, owner, chat]))
    .digest('base64url')
}

async function hasEnded({ runs }: Gateway, run: string): Promise<boolean> {
  try {
    return (await runs.status(run)).status === 'ended'
  } catch (error) {
    if (error instanceof EvenkeelError && error.code === 'NOT_FOUND') return true
    throw error
  }
}

function dialectAt({ dialect }: Route, path: string): Dialect | null {
  const spoken = dialectOf(path)
  if (dialect === undefined) return spoken
  return dialect === 'openai' && spoken === 'openai-responses' ? spoken : dialect
}

/** Throws BAD_REQUEST. */
function modeOf({ headers }: IncomingMessage, usual: 'attached' | 'durable'): 'attached' | 'durable' {
  const mode = headers['x-run-mode'] ?? usual
  if (mode !== 'attached' && mode !== 'durable')
    throw new EvenkeelError('BAD_REQUEST', 'X-Run-Mode must be attached or durable')
  return mode
}

function decoded(name: string): string | null {
  try {
    const chat = decodeURIComponent(name)
    return isChatId(chat) ? chat : null
  } catch {
    return null
  }
}

const retryAfterSeconds = 1

function refuse(
  request: IncomingMessage,
  response: ServerResponse,
  dialect: Dialect,
  error: EvenkeelError,
): void {
  const status = statusOf(error)
  const retry = status === 503 || status === 429 ? { 'retry-after': String(retryAfterSeconds) } : {}
  // What is left of the request is not read: the connection cannot be used again.
  const close = request.complete ? {} : { connection: 'close' }
  response
    .writeHead(status, { 'content-type': 'application/json', ...retry, ...close })
    .end(JSON.stringify(refusalOf(dialect, { code: error.code, message: error.message }, status)))
}
