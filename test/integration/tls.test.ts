import { once } from 'node:events'
import { copyFileSync, renameSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import path from 'node:path'
import { createNode } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { echo, startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import {
  Http2Client,
  handshake,
  makeCertificate,
  type Pair,
  read,
  temporaryDirectory,
  tlsListener,
} from '../support/tls.ts'

const start = (certificates: readonly Pair[], more = {}, others = {}) =>
  startTestGateway({ public: tlsListener(certificates, more), ...others } as never)

async function nameShown(gateway: TestGateway, servername: string): Promise<string> {
  const socket = await handshake(gateway.publicPort, servername)
  return socket.getPeerCertificate().subject.CN as string
}

const metricsOf = async (gateway: TestGateway) => (await fetch(`${gateway.internalUrl}/metrics`)).text()
const readyOf = async (gateway: TestGateway) =>
  (await (await fetch(`${gateway.internalUrl}/readyz`)).json()) as { ready: boolean; reasons: string[] }

/** In one step: a look at the files must not find half of one, which would be a reload more that fails. */
function replace(file: string, by: string): void {
  copyFileSync(by, `${file}.next`)
  renameSync(`${file}.next`, file)
}

function copy(from: Pair, to: Pair): void {
  replace(to.certFile, from.certFile)
  replace(to.keyFile, from.keyFile)
}

test('each name gets its certificate: in full, by wildcard, as configured; all others the first', async () => {
  const directory = temporaryDirectory()
  const gateway = await start([
    makeCertificate(directory, ['first.example']),
    makeCertificate(directory, ['app.example', '*.app.example']),
    makeCertificate(directory, ['special.app.example']),
    { ...makeCertificate(directory, ['configured.example']), names: ['other.example'] } as Pair,
  ])
  expect(await nameShown(gateway, 'app.example')).toBe('app.example')
  expect(await nameShown(gateway, 'A.App.example')).toBe('app.example')
  expect(await nameShown(gateway, 'special.app.example')).toBe('special.app.example')
  expect(await nameShown(gateway, 'a.b.app.example')).toBe('first.example')
  expect(await nameShown(gateway, 'other.example')).toBe('configured.example')
  expect(await nameShown(gateway, 'configured.example')).toBe('first.example')
  expect(await nameShown(gateway, '')).toBe('first.example')
})

test('certificates that change are read anew, and connections stay; a pair that is broken changes nothing', async () => {
  const directory = temporaryDirectory()
  const old = makeCertificate(directory, ['old.example', '127.0.0.1'])
  const other = makeCertificate(directory, ['new.example', '127.0.0.1'])
  const used = { certFile: path.join(directory, 'used.pem'), keyFile: path.join(directory, 'used.key') }
  copy(old, used)
  const gateway = await start([used], { reloadMs: 20 })
  await startTestNode(gateway, echo)
  const ws = new WebSocket(`wss://127.0.0.1:${gateway.publicPort}/ws`, { ca: read(old) })
  await once(ws, 'open')
  expect(await nameShown(gateway, '')).toBe('old.example')

  // A new certificate whose key has not come yet.
  replace(used.certFile, other.certFile)
  const why = 'is not the key of the certificate in'
  await expect.poll(async () => (await readyOf(gateway)).reasons.join()).toContain(why)
  expect((await readyOf(gateway)).ready).toBe(true)
  expect(await nameShown(gateway, '')).toBe('old.example')
  expect(await metricsOf(gateway)).toContain(
    'evenkeel_tls_reloads_total{listener="public",result="failed"} 1',
  )

  replace(used.keyFile, other.keyFile)
  await expect.poll(async () => (await readyOf(gateway)).reasons).toEqual([])
  // With and without a name.
  expect(await nameShown(gateway, '')).toBe('new.example')
  expect(await nameShown(gateway, 'new.example')).toBe('new.example')
  writeFileSync(used.keyFile, 'nonsense')
  await expect
    .poll(async () => (await readyOf(gateway)).reasons.join())
    .toContain('holds no private key in PEM')
  expect(await nameShown(gateway, 'new.example')).toBe('new.example')

  ws.send('still here')
  const [data] = await once(ws, 'message')
  expect(String(data)).toBe('still here')
  ws.close()
})

test('what is wrong with the files is said at start', async () => {
  const directory = temporaryDirectory()
  const one = makeCertificate(directory, ['one.example'])
  const two = makeCertificate(directory, ['two.example'])
  const nonsense = path.join(directory, 'nonsense.pem')
  writeFileSync(nonsense, '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n')
  const refusal = (pair: Pair) =>
    start([one, pair]).then(
      () => 'started',
      (error) => `${error.code} ${error.message}`,
    )
  expect(await refusal({ ...one, certFile: path.join(directory, 'none.pem') })).toMatch(
    /^CONFIG_INVALID .*none\.pem cannot be read \(ENOENT\)$/,
  )
  expect(await refusal({ ...one, keyFile: two.keyFile })).toMatch(
    /^CONFIG_INVALID .*two\.example\.key is not the key of the certificate in .*one\.example\.pem$/,
  )
  expect(await refusal({ ...one, certFile: nonsense })).toMatch(
    /^CONFIG_INVALID .*nonsense\.pem holds no certificate in PEM/,
  )
  expect(await refusal({ ...one, keyFile: one.certFile })).toMatch(
    /^CONFIG_INVALID .* holds no private key in PEM/,
  )
})

test('one that has expired is used, and said to be', async () => {
  const directory = temporaryDirectory()
  const expired = makeCertificate(directory, ['old.example'], -1)
  const gateway = await start([expired])
  expect(await nameShown(gateway, '')).toBe('old.example')
  expect((await readyOf(gateway)).reasons).toEqual([
    expect.stringMatching(/^public listener: the certificate in .*old\.example\.pem has expired on 2/),
  ])
  const seen = await new Http2Client(gateway.publicPort).request({ ':path': '/readyz' })
  expect(JSON.parse(seen.body)).toEqual({
    ready: true,
    reasons: ['public listener: its certificates need attention'],
  })
  const expiry = /evenkeel_tls_certificate_expiry_seconds\{listener="public",file="[^"]+"\} (-?\d+)/
  expect(Number(expiry.exec(await metricsOf(gateway))![1])).toBeLessThan(-80_000)
})

test('TLS below the version that is wanted, a handshake that does not come, and nonsense are cut', async () => {
  const pair = makeCertificate(temporaryDirectory(), ['one.example'])
  const gateway = await start([pair], { minVersion: 'TLSv1.3' }, { limits: { handshakeMs: 300 } })
  const old = { maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2' }
  await expect(handshake(gateway.publicPort, 'one.example', old)).rejects.toThrow(/version/)
  expect((await handshake(gateway.publicPort, 'one.example')).getProtocol()).toBe('TLSv1.3')

  const silent = connect(gateway.publicPort, '127.0.0.1')
  const nonsense = connect(gateway.publicPort, '127.0.0.1')
  for (const socket of [silent, nonsense]) socket.on('error', () => {}).resume()
  nonsense.write('GET / HTTP/1.1\r\nHost: one.example\r\n\r\n')
  await Promise.all([once(silent, 'close'), once(nonsense, 'close')])
  await expect
    .poll(() => metricsOf(gateway))
    .toContain('evenkeel_tls_handshakes_failed_total{listener="public"} 3')
})

test('sessions are resumed by tickets', async () => {
  const pair = makeCertificate(temporaryDirectory(), ['one.example'])
  const gateway = await start([pair])
  const first = await handshake(gateway.publicPort, 'one.example', { maxVersion: 'TLSv1.2' })
  const again = await handshake(gateway.publicPort, 'one.example', {
    maxVersion: 'TLSv1.2',
    session: first.getSession(),
  })
  expect([first.isSessionReused(), again.isSessionReused()]).toEqual([false, true])
})

test('nodes and operators reach an internal listener with TLS', async () => {
  const pair = makeCertificate(temporaryDirectory(), ['localhost', '127.0.0.1'])
  const gateway = await startTestGateway({ internal: tlsListener([pair]) } as never, {
    nodeToken: 'n',
    adminToken: 'a',
  })
  const options = {
    gateways: [`wss://127.0.0.1:${gateway.internalPort}`],
    token: 'n',
    drainOnSigterm: false,
    logger: { info() {}, warn() {}, error() {} },
  }
  const node = createNode({ id: 'secure', ca: read(pair), ...options })
  onTestFinished(() => node.stop())
  node.serve(echo)
  await node.start()
  const ws = new WebSocket(gateway.wsUrl)
  await once(ws, 'open')
  ws.send('hello')
  const [data] = await once(ws, 'message')
  expect(String(data)).toBe('hello')
  ws.close()

  const stranger = createNode({ id: 'stranger', ...options })
  onTestFinished(() => stranger.stop())
  stranger.serve(echo)
  const refused = once(stranger, 'disconnected')
  void stranger.start().catch(() => {})
  const [error] = await refused
  expect((error as Error).message).toMatch(/self.signed certificate/)
  expect(gateway.operator.gateways()[0]!.internalUrl).toBe(`wss://127.0.0.1:${gateway.internalPort}`)
})
