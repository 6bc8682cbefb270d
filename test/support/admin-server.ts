import { once } from 'node:events'
import { type IncomingMessage, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pino } from 'pino'
import { createInternalListener, type InternalListenerOptions } from '../../src/admin/internal-listener.ts'
import { createMetrics } from '../../src/admin/metrics.ts'
import { createStats } from '../../src/admin/stats.ts'
import { Turn } from '../../src/gateway/turn.ts'
import { FakeOperator } from './fake-operator.ts'

export interface AdminServer extends AsyncDisposable {
  operator: FakeOperator
  server: Server
  port: number
  url: string
}

/** The real internal listener on a free port of 127.0.0.1, in front of a fake operator. */
export async function startAdminServer(change: Partial<InternalListenerOptions> = {}): Promise<AdminServer> {
  const operator = new FakeOperator()
  const metrics = createMetrics(operator)
  const stats = createStats(operator)
  const server = createInternalListener({
    operator,
    turn: new Turn(),
    metrics,
    stats,
    adminToken: null,
    logger: pino({ level: 'silent' }),
    listenHost: '127.0.0.1',
    ...change,
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    operator,
    server,
    port,
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
      metrics.close()
      stats.close()
    },
  }
}

export interface Answer {
  status: number
  headers: IncomingMessage['headers']
  text: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  json: any
}

/** One request as it is given: no header is added and the path is not normalised. */
export async function call(
  port: number,
  method: string,
  path: string,
  options: { headers?: Record<string, string>; body?: string | Buffer } = {},
): Promise<Answer> {
  const outgoing = request({ host: '127.0.0.1', port, method, path, headers: options.headers, agent: false })
  outgoing.end(options.body)
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
  let text = ''
  for await (const chunk of incoming.setEncoding('utf8')) text += chunk
  const isJson = incoming.headers['content-type']?.includes('json') === true && text !== ''
  return {
    status: incoming.statusCode ?? 0,
    headers: incoming.headers,
    text,
    json: isJson ? JSON.parse(text) : null,
  }
}

/** A call with a JSON body. */
export function callJson(port: number, method: string, path: string, body: unknown): Promise<Answer> {
  return call(port, method, path, {
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
}
