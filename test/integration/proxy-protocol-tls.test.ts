import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect as connectTcp } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { startHaproxy } from '../support/haproxy.ts'
import { startTestGateway, startTestNode } from '../support/in-process.ts'
import { localCertificate, read, tlsListener } from '../support/tls.ts'

test.each([
  ['v1', 'send-proxy'],
  ['v2', 'send-proxy-v2'],
])('before TLS of the gateway, over HTTP/1.1 and HTTP/2: %s', async (_version, options) => {
  const listener = tlsListener([localCertificate()])
  const from = { proxyProtocol: 'required', proxyProtocolFrom: ['127.0.0.1'] }
  const gateway = await startTestGateway({ public: { ...listener, ...from } } as never)
  const node = await startTestNode(gateway, {
    message(session) {
      session.send(session.meta.address)
    },
  })
  onTestFinished(() => node.stop())
  const port = await startHaproxy(gateway.publicPort, options)
  const ca = read(localCertificate())
  const ws = new WebSocket(`wss://127.0.0.1:${port}/ws`, { ca, localAddress: '127.1.2.3' })
  onTestFinished(() => ws.terminate())
  await once(ws, 'open')
  ws.send('who am I?')
  expect(String((await once(ws, 'message'))[0])).toBe('127.1.2.3')

  const wire = connectTcp({ port, host: '127.0.0.1', localAddress: '127.1.2.4' })
  const secure = connectTls({ socket: wire, ca, servername: 'localhost', ALPNProtocols: ['h2'] })
  const client = connectHttp2('https://localhost', { createConnection: () => secure })
  onTestFinished(() => client.destroy())
  const stream = client.request({ ':path': '/sse', accept: 'text/event-stream' })
  await once(stream, 'data')
  const addresses = gateway.operator.sessions().sessions.map(({ address }) => address)
  expect(addresses).toContain('127.1.2.4')
})
