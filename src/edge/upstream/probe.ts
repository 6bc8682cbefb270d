import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { connect, isIP, type Socket } from 'node:net'
import { encodeProxyHeader, type ProxyProtocolVersion } from '../../core/net/proxy-protocol.ts'
import { connectTo as connectUpstream } from './socket.ts'

export interface ProbeTarget {
  /** For the Host header and the name in TLS. */
  readonly url: URL
  /** What is dialled. */
  readonly address: { readonly host: string; readonly port: number }
  /** null: a TCP connection is enough. */
  readonly path: string | null
  /** A request begins with a header that says that it is for nobody. Default null. */
  readonly proxyProtocol?: ProxyProtocolVersion | null
}

/**
 * Looks once whether an upstream lives. Resolves null, or with the reason why it does not. Redirects are an answer and are not
 * followed. What is open is closed when it resolves.
 */
export function probeUpstream(target: ProbeTarget, timeoutMs: number): Promise<string | null> {
  return new Promise((resolve) => {
    const attempt = target.path === null ? connectTo(target, end) : ask(target, target.path, end)
    const timer = setTimeout(() => end(`no answer within ${timeoutMs} ms`), timeoutMs)
    function end(failure: string | null) {
      clearTimeout(timer)
      attempt.destroy()
      resolve(failure)
    }
  })
}

type End = (failure: string | null) => void

function connectTo({ address }: ProbeTarget, end: End): { destroy(): void } {
  const socket = connect(address)
  socket.on('connect', () => end(null))
  socket.on('error', (error) => end(reasonOf(error)))
  return socket
}

function ask(target: ProbeTarget, path: string, end: End): { destroy(): void } {
  const { url, address, path: probed, proxyProtocol = null } = target
  const name = url.hostname.replace(/^\[|\]$/g, '')
  const options = {
    host: address.host,
    port: address.port,
    path,
    method: 'GET',
    headers: { host: url.host, 'user-agent': 'evenkeel-probe', connection: 'close' },
    // With an agent Node would not ask for a connection.
    ...(proxyProtocol === null
      ? { agent: false as const }
      : { createConnection: () => connectWith(proxyProtocol, target) }),
  }
  const request =
    url.protocol === 'https:'
      ? httpsRequest({ ...options, ...(isIP(name) === 0 ? { servername: name } : {}) })
      : httpRequest(options)
  const judge = ({ statusCode = 0 }: IncomingMessage) =>
    end(statusCode >= 200 && statusCode < 400 ? null : `${probed} answers ${statusCode}`)
  request.on('response', judge)
  request.on('upgrade', (response, socket) => {
    socket.destroy()
    judge(response)
  })
  request.on('error', (error) => end(reasonOf(error)))
  request.end()
  return request
}

function connectWith(version: ProxyProtocolVersion, target: ProbeTarget): Socket {
  return connectUpstream(target, encodeProxyHeader(version, null, null))
}

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  return code ?? message
}
