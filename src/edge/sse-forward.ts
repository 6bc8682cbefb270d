import { Agent, type IncomingMessage, request as requestHttp, type ServerResponse } from 'node:http'
import { request as requestHttps } from 'node:https'
import { EvenkeelError } from '../protocol/errors.ts'
import { originHeader } from './engine-io-forward.ts'
import { splitTarget } from './request-meta.ts'

/** Between gateways: what the client has shown. */
export const sessionTokenHeader = 'x-evenkeel-session-token'
/** Between gateways: who the client is, percent-encoded. */
export const shownUserHeader = 'x-evenkeel-shown-user'
const passedOn = ['content-type', 'content-length', 'idempotency-key'] as const
const connectMs = 2_000

/** Brings a client's request to the gateway that has its stream, over the internal listener of that one. */
export class SseForwarder {
  private readonly token: string | null
  private readonly agent = new Agent({ keepAlive: true })

  /** `token`: the admin token, which the gateways of a cluster share. */
  constructor(token: string | null) {
    this.token = token
  }

  /** Answers as the owner does, with `headers` too. Throws NOT_FOUND, and NOT_READY when that one does not. */
  async forward(
    owner: URL,
    request: IncomingMessage,
    response: ServerResponse,
    sessionToken: string,
    headers: Record<string, string>,
    user = '',
  ): Promise<void> {
    const answer = await this.send(owner, request, response, sessionToken, user)
    const own = Object.fromEntries(
      ['content-type', 'retry-after'].flatMap((name) => {
        const value = answer.headers[name]
        return typeof value === 'string' ? [[name, value]] : []
      }),
    )
    response.writeHead(answer.statusCode!, { ...own, ...headers })
    answer.on('error', () => response.destroy())
    answer.pipe(response)
  }

  close(): void {
    this.agent.destroy()
  }

  private send(
    owner: URL,
    request: IncomingMessage,
    response: ServerResponse,
    sessionToken: string,
    user: string,
  ): Promise<IncomingMessage> {
    const headers: Record<string, string> = { [sessionTokenHeader]: sessionToken }
    if (user !== '') headers[shownUserHeader] = encodeURIComponent(user)
    for (const name of passedOn) {
      const value = request.headers[name]
      if (typeof value === 'string') headers[name] = value
    }
    if (this.token !== null) headers.authorization = `Bearer ${this.token}`
    if (request.headers.origin !== undefined) headers[originHeader] = request.headers.origin
    const isSecure = owner.protocol === 'https:'
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const upstream = (isSecure ? requestHttps : requestHttp)(targetOf(owner, request.url!), {
      method: request.method!,
      headers,
      ...(isSecure ? {} : { agent: this.agent }),
    })
    // Only until it is connected: a commit may take long.
    upstream.setTimeout(connectMs, () => {
      if (upstream.socket?.connecting !== false) upstream.destroy(new Error('not connected in time'))
    })
    upstream.on('response', resolve)
    upstream.on('error', () =>
      reject(
        new EvenkeelError('NOT_READY', 'the gateway that has the stream of this session does not answer'),
      ),
    )
    response.on('close', () => upstream.destroy())
    request.pipe(upstream)
    return promise
  }
}

/** A path with `..` would leave `/sse/`, and reach the owner's admin API with this gateway's token. Throws NOT_FOUND. */
function targetOf(owner: URL, requested: string): URL {
  const target = new URL(requested, owner)
  if (target.pathname !== splitTarget(requested)[0])
    throw new EvenkeelError('NOT_FOUND', 'no such SSE session')
  return target
}
