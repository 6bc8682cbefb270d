import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { createNode } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { gatewayProcess } from '../support/gateway-under-test.ts'
import { RedisServer } from '../support/redis.ts'
import { Http2Client, makeCertificate, read, temporaryDirectory } from '../support/tls.ts'

test('gateways and nodes of a cluster find and reach each other over TLS', async () => {
  const directory = temporaryDirectory()
  const pair = makeCertificate(directory, ['localhost', '127.0.0.1'])
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  const tokens = { node: 'n', admin: 'a' }
  const start = async (id: string) => {
    const own = path.join(directory, id)
    mkdirSync(own)
    // Named beside the file of the configuration.
    const tls = { certificates: [{ certFile: '../localhost.pem', keyFile: '../localhost.key' }] }
    const config = { gatewayId: id, redis: redis.url, public: { tls }, internal: { tls } }
    const gateway = await gatewayProcess(own, config, tokens, { NODE_EXTRA_CA_CERTS: pair.certFile })
    onTestFinished(() => gateway.close())
    return gateway
  }
  const [first, second] = await Promise.all([start('g1'), start('g2')])
  const quiet = { info() {}, warn() {}, error() {} }
  const node = createNode({
    id: 'n1',
    redis: redis.url,
    token: 'n',
    ca: read(pair),
    drainOnSigterm: false,
    logger: quiet,
  })
  onTestFinished(() => node.stop())
  node.serve({ message: (session, data) => void session.send(data) })
  await node.start()

  const clients = [new Http2Client(first!.publicPort), new Http2Client(second!.publicPort)]
  const stream = await clients[0]!.events('/sse', { accept: 'text/event-stream' })
  const { session, token } = JSON.parse((await stream.next('session')).data) as Record<string, string>
  const headers = { ':method': 'POST', ':path': `/sse/${session}`, authorization: `Bearer ${token}` }
  // At the gateway that does not have the stream: it asks the other one.
  expect((await clients[1]!.request(headers, 'from elsewhere')).status).toBe(202)
  expect((await stream.next()).data).toBe('from elsewhere')
})
