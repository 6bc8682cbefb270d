import { createHash } from 'node:crypto'
import {
  Agent,
  type IncomingMessage,
  type RequestOptions,
  request as requestHttp,
  type ServerResponse,
} from 'node:http'
import { request as requestHttps } from 'node:https'
import type { Socket } from 'node:net'
import type { Gateway } from '../gateway/gateway.ts'
import { enginePath } from '../protocol/engine-paths.ts'
import { cutSoon } from './last-words.ts'
import { splitTarget } from './request-meta.ts'

/** Between gateways; what a client sends under these names is dropped. */
export const originHeader = 'x-evenkeel-origin'
const dropped = new Set([
  'host',
  'connection',
  'authorization',
  'origin',
  'keep-alive',
  'transfer-encoding',
  originHeader,
])
const connectMs = 2_000
/** A WebSocket's handshake needs nothing but the owner's attention. */
const handshakeMs = 10_000

/** Clients begin anew when they get it. */
const unknownSession = JSON.stringify({ code: 1, message: 'Session ID unknown' })

/** Which gateway a `sid` belongs to; the id itself is nobody else's business. */
export function ownerTag(gatewayId: string): string {
  return createHash('sha256').update(gatewayId).digest('base64url').slice(0, 8)
}

/**
 * The internal listener of the gateway with this tag; null when that is this gateway, or none. A gateway that has just begun has clients before
 * all others have heard of it: who is not known is looked for once more.
 */
export async function otherGateway(gateway: Gateway, tag: string): Promise<URL | null> {
  if (tag === ownerTag(gateway.id)) return null
  const known = knownGateway(gateway, tag)
  if (known !== null || !tagPattern.test(tag)) return known
  await gateway.cluster.registry.refresh()
  return knownGateway(gateway, tag)
}

const tagPattern = /^[\w-]{8}$/

function knownGateway(gateway: Gateway, tag: string): URL | null {
  for (const entry of gateway.cluster.registry.entries()) {
    if (entry.kind === 'gateway' && ownerTag(entry.id) === tag)
      return new URL(entry.internalUrl.replace(/^ws/, 'http'))
  }
  return null
}

/** Brings requests to the gateway that has their Engine.IO session, over its internal listener. */
export class EngineIoForwarder {
  private readonly gateway: Gateway
  private readonly token: string | null
  private readonly agent = new Agent({ keepAlive: true })

  /** `token`: the admin token, which the gateways of a cluster share. */
  constructor(gateway: Gateway, token: string | null) {
    this.gateway = gateway
    this.token = token
  }

  /** The internal listener of the owner; null when that is this gateway, or nobody. */
  ownerOf(sid: string): Promise<URL | null> {
    return otherGateway(this.gateway, sid.split('.', 1)[0]!)
  }

  request(owner: URL, request: IncomingMessage, response: ServerResponse): void {
    const upstream = this.open(owner, request, {})
    upstream.on('response', (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      answer.on('error', () => response.destroy())
      answer.pipe(response)
    })
    upstream.on('error', () => {
      if (response.headersSent) response.destroy()
      else response.writeHead(400, { 'content-type': 'application/json' }).end(unknownSession)
    })
    response.on('close', () => upstream.destroy())
    request.pipe(upstream)
  }

  upgrade(owner: URL, request: IncomingMessage, socket: Socket, head: Buffer): void {
    const upstream = this.open(owner, request, { connection: 'Upgrade' })
    const refuse = () => {
      socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n')
      cutSoon(socket)
    }
    // Nobody else listens any more, and a client may reset its connection before the owner has answered.
    socket.on('error', () => upstream.destroy())
    const timer = setTimeout(() => upstream.destroy(new Error('no answer in time')), handshakeMs)
    upstream.on('close', () => clearTimeout(timer))
    upstream.on('upgrade', (answer, peer, peerHead) => {
      clearTimeout(timer)
      const lines = [`HTTP/1.1 101 ${answer.statusMessage}`]
      for (let i = 0; i < answer.rawHeaders.length; i += 2)
        lines.push(`${answer.rawHeaders[i]}: ${answer.rawHeaders[i + 1]}`)
      socket.write(`${lines.join('\r\n')}\r\n\r\n`)
      socket.write(peerHead)
      peer.write(head)
      socket.on('error', () => peer.destroy())
      peer.on('error', () => socket.destroy())
      socket.on('close', () => peer.destroy())
      peer.on('close', () => socket.destroy())
      socket.setNoDelay(true)
      peer.pipe(socket)
      socket.pipe(peer)
    })
    upstream.on('response', (answer) => {
      answer.resume()
      refuse()
    })
    upstream.on('error', refuse)
    socket.on('close', () => upstream.destroy())
    upstream.end()
  }

  close(): void {
    this.agent.destroy()
  }

  private open(owner: URL, request: IncomingMessage, more: Record<string, string>) {
    const headers: Record<string, string | string[]> = { ...more }
    for (const [name, value] of Object.entries(request.headers))
      if (value !== undefined && !dropped.has(name)) headers[name] = value
    const { origin } = request.headers
    // The page was judged here; the other one only has to name it in its answer.
    if (origin !== undefined) headers[originHeader] = origin
    if (this.token !== null) headers.authorization = `Bearer ${this.token}`
    const isSecure = owner.protocol === 'https:'
    const options: RequestOptions = {
      method: request.method!,
      headers,
      ...(isSecure ? {} : { agent: this.agent }),
    }
    const [path, query] = splitTarget(request.url!)
    const target = new URL(`${enginePath(path)}?${query}`, owner)
    const upstream = (isSecure ? requestHttps : requestHttp)(target, options)
    // Only until it is connected: an answer to a poll may take long.
    upstream.setTimeout(connectMs, () => {
      if (upstream.socket?.connecting !== false) upstream.destroy(new Error('not connected in time'))
    })
    return upstream
  }
}

/** Undoes what `open` has done to the request, at the owner. */
export function restoreForwarded(request: IncomingMessage): void {
  const origin = request.headers[originHeader]
  if (typeof origin === 'string') request.headers.origin = origin
}
