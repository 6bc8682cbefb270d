import type { IncomingMessage } from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, onTestFinished } from 'vitest'
import { type ClientOptions, WebSocket } from 'ws'
import { echo, startTestGateway, startTestNode, type TestGateway } from './in-process.ts'

/** Opens a WebSocket; the answer, when it is refused. */
export async function dial(
  gateway: TestGateway,
  options: ClientOptions = {},
): Promise<WebSocket | IncomingMessage> {
  const ws = new WebSocket(gateway.wsUrl, options)
  ws.on('error', () => {})
  onTestFinished(() => ws.terminate())
  const { promise, resolve } = Promise.withResolvers<WebSocket | IncomingMessage>()
  ws.once('open', () => resolve(ws))
  ws.once('unexpected-response', (request, response) => {
    request.destroy()
    resolve(response)
  })
  return await promise
}

export interface StormOptions {
  clients: number
  /** What the gateway takes. */
  perSecond: number
  burst: number
}

/** All clients come at once, and those who are refused again when they were told to. Fails unless all get in, none before its time. */
export async function connectStorm({ clients, perSecond, burst }: StormOptions): Promise<void> {
  const rateLimits = { gateway: { newConnections: { perSecond, burst } } }
  const limits = { handshakeMs: 60_000 }
  const gateway = await startTestGateway({
    rateLimits: rateLimits as never,
    limits,
    // Gateway and clients are in one process, which the storm keeps busy.
    overload: { enabled: false },
  })
  await startTestNode(gateway, echo)
  const openedAt: number[] = []
  const waits = new Set<number>()
  const begun = performance.now()
  const enter = async () => {
    for (;;) {
      const answer = await dial(gateway)
      if (answer instanceof WebSocket) return openedAt.push(performance.now() - begun)
      expect(answer.statusCode).toBe(503)
      const seconds = Number(answer.headers['retry-after'])
      waits.add(seconds)
      await pause(seconds * 1_000)
    }
  }
  await Promise.all(Array.from({ length: clients }, enter))
  expect(openedAt).toHaveLength(clients)
  // A client sees that it is in no earlier than the gateway lets it in.
  for (const [index, ms] of openedAt.sort((a, b) => a - b).entries())
    expect(index + 1).toBeLessThanOrEqual(burst + (ms * perSecond) / 1_000 + 1)
  const refused = gateway.operator.counters.refused['gateway-new-connections'] ?? 0
  expect(refused).toBeGreaterThan(0)
  if (refused > perSecond) expect(waits.size).toBeGreaterThanOrEqual(2)
}
