import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { inspect } from 'node:util'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { ClusterMember } from '../../src/cluster/member.ts'
import { joinRedis } from '../../src/cluster/redis.ts'
import type { StoredUpstreams } from '../../src/cluster/upstreams.ts'
import { gatewayEntry, joinRedisInTest, recordChanges, recordChannel } from '../support/clusters.ts'
import { Recorder } from '../support/recorder.ts'
import { RedisServer } from '../support/redis.ts'
import { documentedGrants } from '../support/redis-grants.ts'

const password = 'hunter2/@:%'
const encoded = encodeURIComponent(password)

async function startRedis(args: string[] = []): Promise<RedisServer> {
  const server = await RedisServer.start(args)
  onTestFinished(() => server.stop())
  return server
}

async function startRedisWithUser(): Promise<{ server: RedisServer; url: string }> {
  const server = await startRedis()
  await server.command('ACL', 'SETUSER', 'evenkeel', 'on', `>${password}`, ...documentedGrants())
  return { server, url: `redis://evenkeel:${encoded}@127.0.0.1:${server.port}` }
}

/** Nothing that was printed or thrown shows the password. */
function watchForPassword(): (...shown: unknown[]) => void {
  const methods = ['log', 'info', 'warn', 'error', 'debug'] as const
  const spies = methods.map((method) => vi.spyOn(console, method).mockImplementation(() => {}))
  onTestFinished(() => spies.forEach((spy) => void spy.mockRestore()))
  return (...shown) => {
    const all = inspect([shown, spies.map((spy) => spy.mock.calls)], { depth: null, showHidden: true })
    expect(all).not.toContain('hunter2')
  }
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => expect.unreachable('it must be refused'),
    (error: unknown) => error,
  )
}

async function useAll(member: ClusterMember): Promise<void> {
  const messages = await recordChannel(member, 'room')
  expect(messages.live).toBe(true)
  await member.bus.publish('room', Buffer.from('x'), true)
  await messages.until((items) => items.length === 1)
  const position = await member.history.publish('room', Buffer.from('y'), true, { size: 10, ttlMs: 60_000 })
  await messages.until((items) => items.length === 2)
  expect((await member.history.read('room', { ...position, offset: 0 })).continuous).toBe(true)
  await member.bus.unsubscribe('room')
  const seen = recordChanges(member.registry)
  expect(await member.registry.announce(gatewayEntry('a'))).toBe(true)
  await seen.until((items) => items.length === 1)
  expect(await member.registry.lead('plan', 60_000)).toBe(true)
  await member.registry.withdraw()
  await seen.until((items) => items.length === 2)
  await useRuns(member.runs)
  await member.limiter!('requests', { perSecond: 1, burst: 3 }).consume('ada', 1)
  const upstream = { id: 'a', pool: 'legacy', url: 'http://10.0.0.1', weight: 1 }
  const lists = new Recorder<StoredUpstreams>()
  onTestFinished(member.upstreams.watch(lists.add))
  await member.upstreams.add(upstream)
  member.upstreams.set('a', { weight: 2 })
  await lists.until((items) => items.at(-1)?.settings.get('a')?.weight === 2)
  expect(await member.upstreams.remove('a')).toBe(true)
  expect(member.bus.status()).toEqual({ ready: true, reason: null })
}

async function useRuns(logs: ClusterMember['runs']): Promise<void> {
  const bounds = { depthMost: 5, ageMsMost: 5_000 }
  const claim = { holder: 'g', job: 'j', onLoss: 'restart' } as const
  const entry = { epoch: 1, first: 1, count: 1, json: '["x"]' }
  await logs.name('p/n', 'key', { run: 'r', hash: 'h' })
  await logs.create('r', { lane: 'p/n', requestJson: '1' })
  await logs.queues.add('p/n', 'r', bounds)
  await logs.queues.add('p/n', 'other', bounds)
  const [job] = await logs.queues.take('p/n', 1)
  await logs.queues.beat('p/n', [job!.job])
  await logs.queues.takeOverdue('p/n', 60_000, 1)
  await logs.claim('r', { ...claim, epoch: null })
  await logs.append('r', { holder: 'g', entry, effects: true, terminal: null })
  expect(await logs.renew('r', 'g', 1)).toBe(true)
  expect(await logs.attach('r', 'g', 1)).not.toBeNull()
  expect(await logs.release('r', 'g', 1, true)).toBe(true)
  await logs.queues.putBack('p/n', job!.job, 'r')
  await logs.claim('r', { ...claim, epoch: null })
  await logs.finish('r', { type: 'end', reason: 'cancelled' }, 'live')
  expect((await logs.read('r', { epoch: 0, seq: 0 }, 1_000))!.entries.length).toBeGreaterThan(0)
  await logs.queues.done('p/n', job!.job)
  await logs.create('unused', { lane: 'p/n', requestJson: '1' })
  await logs.discard('unused')
  await logs.revive('lost', {
    lane: 'p/n',
    requestJson: '1',
    holder: 'g',
    job: 'j',
    onLoss: 'restart',
    epoch: 2,
  })
}

test('a user who may do nothing but ours can do all of it', async () => {
  const { url } = await startRedisWithUser()
  const member = await joinRedisInTest(url)
  await useAll(member)
  expect(member.problems.items).toEqual([])
})

test('outside its prefix that user can do nothing, and the reason is told', async () => {
  const { url } = await startRedisWithUser()
  const check = watchForPassword()
  const member = await joinRedisInTest(url, { prefix: 'stolen:' })
  const failure = await failureOf(member.bus.publish('room', Buffer.from('x'), true))
  expect(failure).toMatchObject({ code: 'NOT_READY', message: expect.stringContaining('NOPERM') })
  const attempts = [
    member.history.publish('room', Buffer.from('x'), true, { size: 10, ttlMs: 60_000 }),
    member.history.read('room', null),
  ]
  for (const attempt of attempts) expect(await failureOf(attempt)).toMatchObject({ code: 'NOT_READY' })
  expect(await member.bus.subscribe('room', () => {})).toBe(false)
  expect(member.bus.status()).toMatchObject({ ready: false, reason: expect.stringContaining('NOPERM') })
  expect(await member.registry.announce(gatewayEntry('a'))).toBe(false)
  check(failure, member.bus.status())
})

test('a wrong password is reported without showing it', async () => {
  const { server } = await startRedisWithUser()
  const check = watchForPassword()
  const member = await joinRedisInTest(`redis://evenkeel:${encoded}x@127.0.0.1:${server.port}`)
  const failure = await failureOf(member.bus.publish('room', Buffer.from('x'), true))
  expect(failure).toMatchObject({ code: 'NOT_READY', message: expect.stringContaining('WRONGPASS') })
  check(failure, member.bus.status(), member.registry.status())
})

test('a server that repeats the login in its errors does not get it into ours', async () => {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (data) => {
      for (const [, name] of String(data).matchAll(/\*\d+\r\n\$\d+\r\n(\w+)/g))
        socket.write(`-ERR unknown command '${name}', with args beginning with: 'evenkeel' '${password}'\r\n`)
    })
  }).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const check = watchForPassword()
  const { port } = server.address() as AddressInfo
  const member = await joinRedisInTest(`redis://evenkeel:${encoded}@127.0.0.1:${port}`)
  const failure = await failureOf(member.bus.publish('room', Buffer.from('x'), true))
  expect(failure).toMatchObject({ message: expect.stringContaining('***') })
  check(failure, member.bus.status())
})

test('TLS: with the authority it works, without it the reason is told', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-tls-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const [key, certificate] = [path.join(directory, 'key.pem'), path.join(directory, 'cert.pem')]
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1']
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  execFileSync('openssl', ['req', '-x509', ...curve, ...subject, '-keyout', key, '-out', certificate], {
    stdio: 'ignore',
  })
  const files = ['--tls-cert-file', certificate, '--tls-key-file', key, '--tls-ca-cert-file', certificate]
  const server = await startRedis(['--port', '0', '--tls-port', 'PORT', '--tls-auth-clients', 'no', ...files])
  const url = `rediss://127.0.0.1:${server.port}`
  await useAll(await joinRedisInTest(url, { tls: { ca: readFileSync(certificate) } }))
  const stranger = await joinRedisInTest(url)
  expect(stranger.bus.status()).toMatchObject({ ready: false, reason: expect.stringMatching(/certificate/i) })
})

test('a replica is not taken for a master, until it is one', async () => {
  const master = await startRedis()
  const replica = await startRedis(['--replicaof', `127.0.0.1 ${master.port}`])
  const member = await joinRedisInTest(replica.url)
  expect(member.bus.status()).toMatchObject({ ready: false, reason: expect.stringContaining('replica') })
  await replica.command('REPLICAOF', 'NO', 'ONE')
  await expect.poll(() => member.bus.status().ready, { timeout: 20_000 }).toBe(true)
  await useAll(member)
  // A script meets the read-only state first; the connection is given up and the reason found out anew.
  await replica.command('REPLICAOF', '127.0.0.1', master.port)
  expect(await failureOf(member.registry.lead('plan', 60_000))).toMatchObject({ code: 'NOT_READY' })
  await expect
    .poll(() => member.registry.status().reason, { timeout: 20_000 })
    .toContain('give the URL of the master')
})

test('mistakes in the options are told at once', async () => {
  await expect(joinRedis({ url: 'http://localhost' })).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
  await expect(joinRedis({ url: 'redis://localhost', prefix: 'a b' })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
  })
  const [a, b] = [await startRedis(), await startRedis()]
  const member = await joinRedisInTest(`${a.url},${b.url}`)
  expect(member.bus.status()).toMatchObject({
    ready: false,
    reason: expect.stringContaining('single servers'),
  })
  await expect(member.bus.publish('a', Buffer.from('x'), true)).rejects.toMatchObject({ code: 'NOT_READY' })
})
