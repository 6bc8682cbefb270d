import { expect, test } from 'vitest'
import { fuzzHttp2 } from '../support/http2-fuzz.ts'
import { echo, startTestGateway, startTestNode } from '../support/in-process.ts'
import { createRandom, testSeed } from '../support/random.ts'
import { Http2Client, localCertificate, tlsListener } from '../support/tls.ts'

test('100,000 frames that nobody would send: no crash, nothing kept', async () => {
  const random = createRandom(testSeed('HTTP/2 frames'))
  const gateway = await startTestGateway({ public: tlsListener([localCertificate()]) as never })
  await startTestNode(gateway, echo)
  const round = async () => {
    for (let i = 0; i < 50; i++)
      await Promise.all(Array.from({ length: 20 }, () => fuzzHttp2(gateway.publicPort, random, 50)))
  }
  await round()
  const before = process.memoryUsage().rss
  await round()
  const client = new Http2Client(gateway.publicPort)
  expect((await client.request({ ':path': '/healthz' })).status).toBe(200)
  await expect.poll(() => gateway.operator.counters.connections.sse ?? 0).toBe(0)
  expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024)
}, 300_000)
