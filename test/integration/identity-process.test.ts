import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createNode } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { checkConfigFile, loadConfig } from '../../src/cli/config.ts'
import { RawResumableClient } from '../support/raw-resumable-client.ts'
import { launchGateway } from '../support/resumable-gateway.ts'
import { postTo, SseStream } from '../support/sse-stream.ts'
import { issuerOf } from '../support/tokens.ts'

function directory(): string {
  const made = mkdtempSync(path.join(tmpdir(), 'evenkeel-identity-'))
  onTestFinished(() => rmSync(made, { recursive: true }))
  return made
}

test('no token is in the logs of a gateway, whatever became of it, at the level that says most', async () => {
  const files = directory()
  const issuer = await issuerOf('RS256')
  writeFileSync(path.join(files, 'key.pem'), issuer.text)
  const config = path.join(files, 'gateway.yaml')
  writeFileSync(
    config,
    `auth:
  jwt:
    keys: [{ kid: k1, alg: RS256, publicKeyFile: key.pem }]
    from: [header, subprotocol, query, cookie]
    skewMs: 0
  authorize: { url: 'http://127.0.0.1:1/nobody', failOpen: true, timeoutMs: 200 }
log: { level: trace }
`,
  )
  const { child, ready } = launchGateway('gw', config)
  onTestFinished(() => void child.process.kill('SIGKILL'))
  const gateway = await ready
  onTestFinished(() => gateway.events.close())
  const node = createNode({
    id: 'a',
    gateways: [`ws://127.0.0.1:${gateway.internalPort}`],
    drainOnSigterm: false,
  })
  node.serve({ message: (session, data) => void session.send(data) })
  onTestFinished(() => node.stop())
  await node.start()
  const httpUrl = `http://127.0.0.1:${gateway.publicPort}`
  const wsUrl = `ws://127.0.0.1:${gateway.publicPort}/ws`
  const good = await issuer.sign()
  const shown = [good, await issuer.sign({}, -100), `${good.slice(0, -10)}AAAAAAAAAA`, `${good}.${good}`]
  for (const token of shown) {
    const bearer = { authorization: `Bearer ${token}` }
    const ways = [
      { url: wsUrl, headers: bearer },
      { url: wsUrl, headers: { cookie: `evenkeel-token=${token}` } },
      { url: `${wsUrl}?access_token=${token}`, headers: {} },
      { url: wsUrl, headers: { origin: httpUrl, 'sec-websocket-protocol': `chat, evenkeel.jwt.${token}` } },
      { url: `${wsUrl}/nowhere?access_token=${token}`, headers: {} },
    ]
    for (const { url, headers } of ways) {
      const ws = new WebSocket(url, { headers })
      ws.on('error', () => {})
      await new Promise((resolve) => ws.once('open', resolve).once('close', resolve).once('error', resolve))
      ws.terminate()
    }
    await fetch(`${httpUrl}/runs/x/events?access_token=${token}`).then((response) => response.text())
    const raw = await RawResumableClient.open(wsUrl, [`evenkeel.jwt.${token}`])
    raw.send(`h${JSON.stringify({ resume: { session: 's', token: 'x'.repeat(43), out: 0, channels: {} } })}`)
    raw.send(`j${token}`)
    await raw.ended
  }
  const stream = await SseStream.open(httpUrl, { headers: { authorization: `Bearer ${good}` } })
  const known = await stream.session()
  await postTo(httpUrl, known, 'x')
  await gateway.kill('SIGTERM')
  const log = gateway.log()
  expect(log).toContain('gateway ready')
  for (const token of [...shown.flatMap((one) => one.split('.')), known.token.split('.')[0]!])
    expect(log).not.toContain(token)
})

test('what does not go together is said before anything starts, and no secret with it', async () => {
  const files = directory()
  const [rsa, other] = await Promise.all([issuerOf('RS256'), issuerOf('ES256')])
  const secret = 'too short to be one'
  writeFileSync(path.join(files, 'key.pem'), rsa.text)
  writeFileSync(path.join(files, 'ec.pem'), other.text)
  writeFileSync(path.join(files, 'secret'), `${secret}\n`)
  const config = path.join(files, 'gateway.json')
  const complaint = async (auth: object, load = true, more = {}) => {
    writeFileSync(config, JSON.stringify({ auth, ...more }))
    const error: unknown = await (load
      ? loadConfig({ file: config, env: {} })
      : checkConfigFile(config)
    ).then(
      () => null,
      (reason: unknown) => reason,
    )
    return error === null ? 'fine' : String((error as Error).message)
  }
  const rs = { alg: 'RS256', publicKeyFile: 'key.pem' }
  expect(await complaint({ jwt: { keys: [rs] } })).toBe('fine')
  expect(await complaint({})).toContain('auth: give jwt, authorize, or both')
  expect(await complaint({ jwt: {} })).toContain('give keys, jwksUrl or jwksFile')
  expect(await complaint({ jwt: { keys: [rs, { alg: 'HS256', secretFile: 'secret' }] } }, false)).toContain(
    'HS keys cannot stand',
  )
  expect(await complaint({ jwt: { keys: [{ ...rs, alg: 'HS256' }] } }, false)).toContain('give secretFile')
  expect(await complaint({ jwt: { keys: [rs], algorithms: ['HS256'] } }, false)).toContain('algorithms')
  expect(await complaint({ jwt: { keys: [rs], algorithms: ['none'] } }, false)).toContain('algorithms')
  expect(await complaint({ jwt: { keys: [{ ...rs, secretFile: 'secret' }] } }, false)).toContain(
    'either secretFile or publicKeyFile',
  )
  for (const jwksUrl of [
    'http://keys.example/jwks',
    'file:///etc/passwd',
    'http://127.0.0.1.evil.example/',
    'https://u:p@x/',
  ])
    expect(await complaint({ jwt: { jwksUrl } }, false)).toContain('jwksUrl')
  expect(await complaint({ jwt: { jwksUrl: 'https://keys.example/jwks' } }, false)).toBe('fine')
  expect(await complaint({ jwt: { keys: [{ alg: 'HS256', secretFile: 'secret' }] } })).toContain(
    'at least 32 bytes',
  )
  expect(await complaint({ jwt: { keys: [{ alg: 'HS256', secretFile: 'key.pem' }] } })).toContain(
    'holds a public key',
  )
  expect(await complaint({ jwt: { keys: [{ ...rs, publicKeyFile: 'ec.pem' }] } })).toContain(
    'another type than RS256 needs',
  )
  expect(await complaint({ jwt: { keys: [{ ...rs, publicKeyFile: 'secret' }] } })).toContain('no public key')
  expect(await complaint({ jwt: { keys: [{ ...rs, publicKeyFile: 'nowhere' }] } })).toContain('ENOENT')
  expect(await complaint({ jwt: { keys: [{ alg: 'HS256', secretFile: 'secret' }] } })).not.toContain(secret)
})
