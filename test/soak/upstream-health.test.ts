import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { UpstreamServer } from '../support/upstream-server.ts'

/** The defaults of the configuration. */
const probe = { intervalMs: 5_000, timeoutMs: 2_000, failures: 3 }

async function secondsUntil(gateway: TestGateway, id: string, health: 'healthy' | 'down'): Promise<number> {
  const startedAt = performance.now()
  while (gateway.operator.node(id).health !== health) await delay(50)
  return (performance.now() - startedAt) / 1_000
}

test.each([
  ['a connection', {}],
  ['a health page', { path: '/healthz' }],
])(
  'a killed upstream that nobody talks to is out within 20 s and back within 10 s, by %s',
  async (_name, more) => {
    const server = await UpstreamServer.start()
    const pools = { legacy: { upstreams: [server.url], migrate: 'drain', probe: { ...probe, ...more } } }
    const gateway = await startTestGateway({ pools, routes: [{ path: '/*', pool: 'legacy' }] } as never)
    for (let round = 0; round < 3; round++) {
      expect(gateway.operator.node(server.id).health).toBe('healthy')
      await server.kill()
      const out = await secondsUntil(gateway, server.id, 'down')
      await delay(Math.random() * 5_000)
      await server.restart()
      const back = await secondsUntil(gateway, server.id, 'healthy')
      console.log(`upstream-health: out after ${out.toFixed(1)} s, back after ${back.toFixed(1)} s`)
      expect(out).toBeLessThan(20)
      expect(back).toBeLessThan(10)
    }
  },
)
