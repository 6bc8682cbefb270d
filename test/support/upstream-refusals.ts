import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { expect } from 'vitest'
import { WebSocket } from 'ws'
import type { TestGateway } from './in-process.ts'
import { noSessions, startRawUpstream, startUpstreamGateway } from './upstreams.ts'

/** How a client is refused that wants a WebSocket. */
export async function refusal(
  gateway: TestGateway,
  path = '/',
  options = {},
): Promise<{ status: number; body: string }> {
  const ws = new WebSocket(`ws://127.0.0.1:${gateway.publicPort}${path}`, options)
  ws.on('error', () => {})
  const [, response] = (await once(ws, 'unexpected-response')) as [unknown, IncomingMessage]
  let body = ''
  for await (const chunk of response) body += String(chunk)
  return { status: response.statusCode!, body }
}

const switching = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'

/** The right answer to a handshake, with more headers. */
export function acceptHandshake(request: string, more = ''): string {
  const key = /Sec-WebSocket-Key: (.*)\r\n/i.exec(request)?.[1]
  const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
  return `${switching}Sec-WebSocket-Accept: ${accept}\r\n${more}\r\n`
}

/** What upstreams do that do not want a WebSocket, or do not know what it is. */
export const refusals: Record<string, (socket: Socket, request: string) => void> = {
  'a 200 in place of 101': (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'),
  'a 200 that never ends': (socket) => socket.write('HTTP/1.1 200 OK\r\n\r\nok'),
  'a 101 with a wrong Accept': (socket) =>
    socket.write(`${switching}Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n`),
  'a 101 without Accept': (socket) => socket.write(`${switching}\r\n`),
  'a 404': (socket) => socket.write('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n'),
  'a redirect': (socket) =>
    socket.write('HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n'),
  'a subprotocol that nobody asked for': (socket, request) =>
    socket.write(acceptHandshake(request, 'Sec-WebSocket-Protocol: other\r\n')),
  'an extension that nobody asked for': (socket, request) =>
    socket.write(acceptHandshake(request, 'Sec-WebSocket-Extensions: permessage-deflate\r\n')),
  'no HTTP': (socket) => socket.write('\x16\x03\x01\r\n\r\n'),
  'a reset': (socket) => socket.resetAndDestroy(),
  'an end without a word': (socket) => socket.end(),
}

/** Clients meet such an upstream `times`: each gets its 502, and nothing is left open. */
export async function refuse(name: string, times: number): Promise<void> {
  const upstream = await startRawUpstream((socket) => {
    socket.once('data', (data) => refusals[name]!(socket, String(data)))
  })
  const gateway = await startUpstreamGateway([upstream])
  for (let i = 0; i < times; i++) {
    const { status, body } = await refusal(gateway)
    expect(status).toBe(502)
    expect(JSON.parse(body)).toMatchObject({ code: 'BAD_GATEWAY', status: 502 })
    expect(body).not.toContain(upstream.id)
  }
  expect(upstream.accepted).toBe(times)
  await upstream.empty()
  await noSessions(gateway)
  expect(gateway.operator.counters.connections.websocket).toBe(0)
  expect(gateway.operator.nodes()[0]).toMatchObject({ sessions: 0 })
}
