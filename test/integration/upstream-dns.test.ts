import { expect, onTestFinished, test } from 'vitest'
import { DnsDiscovery, type DnsQuery, type FoundServer } from '../../src/cluster/dns-discovery.ts'
import type { EvenkeelError } from '../../src/protocol/errors.ts'
import { pool, startDirectory } from '../support/directory.ts'
import { DnsServer } from '../support/dns-server.ts'
import { Recorder } from '../support/recorder.ts'
import { UpstreamServer } from '../support/upstream-server.ts'

function discover(dns: DnsServer, query: DnsQuery) {
  const answers = new Recorder<readonly FoundServer[]>()
  const problems = new Recorder<EvenkeelError>()
  const discovery = new DnsDiscovery({
    query: { intervalMs: 50, servers: [dns.address], ...query },
    onAnswer: answers.add,
    onProblem: problems.add,
  })
  discovery.start()
  onTestFinished(() => discovery.close())
  const last = () =>
    answers.items.at(-1)?.map(({ address, port, weight }) => `${address} ${port} ${weight}`) ?? []
  return {
    answers,
    problems,
    last,
    until: (wanted: string[]) => answers.until(() => String(last()) === String(wanted)),
  }
}

test('A and AAAA: every address once, in a stable order; changes are seen', async () => {
  const dns = await DnsServer.start()
  dns.names.set('chat.internal', { A: ['10.0.0.2', '10.0.0.1', '10.0.0.2'], AAAA: ['fd00:0:0:0:0:0:0:1'] })
  const { last, until, answers } = discover(dns, { name: 'chat.internal', port: 3000 })
  await until(['10.0.0.1 3000 1', '10.0.0.2 3000 1', 'fd00::1 3000 1'])
  dns.names.set('chat.internal', { A: ['10.0.0.1', '10.0.0.2'], AAAA: ['fd00:0:0:0:0:0:0:1'] })
  const seen = answers.items.length
  await answers.until(({ length }) => length > seen + 1)
  expect(last()).toHaveLength(3)
  dns.names.set('chat.internal', { A: ['10.0.0.3'] })
  await until(['10.0.0.3 3000 1'])
})

test.each([
  [{}, 80],
  [{ scheme: 'https' as const }, 443],
  [{ scheme: 'https' as const, port: 8443 }, 8443],
])('the port of %j is %d', async (change, port) => {
  const dns = await DnsServer.start()
  dns.names.set('chat.internal', { A: ['10.0.0.1'] })
  const { until } = discover(dns, { name: 'chat.internal', ...change })
  await until([`10.0.0.1 ${port} 1`])
})

test('SRV: targets of the first priority with their ports and weights', async () => {
  const dns = await DnsServer.start()
  dns.names.set('_http._tcp.chat.internal', {
    SRV: [
      { priority: 10, weight: 3, port: 3001, name: 'a.internal' },
      { priority: 10, weight: 0, port: 3002, name: 'b.internal' },
      { priority: 20, weight: 9, port: 3003, name: 'backup.internal' },
    ],
  })
  dns.names.set('a.internal', { A: ['10.0.0.1', '10.0.0.2'] })
  dns.names.set('b.internal', { A: ['10.0.0.1'] })
  dns.names.set('backup.internal', { A: ['10.0.0.9'] })
  const { until, answers } = discover(dns, { name: '_http._tcp.chat.internal', type: 'SRV' })
  await until(['10.0.0.1 3001 3', '10.0.0.1 3002 1', '10.0.0.2 3001 3'])
  expect(answers.items[0]!.map(({ name }) => name)).toEqual(['a.internal', 'b.internal', 'a.internal'])
  dns.names.set('_http._tcp.chat.internal', {
    SRV: [{ priority: 20, weight: 9, port: 3003, name: 'backup.internal' }],
  })
  await until(['10.0.0.9 3003 9'])
})

test('the last good answer holds through every kind of failure, and each is reported once', async () => {
  const dns = await DnsServer.start()
  dns.names.set('chat.internal', { A: ['10.0.0.1'] })
  const { answers, problems, until } = discover(dns, { name: 'chat.internal' })
  await until(['10.0.0.1 80 1'])
  const failures = [
    () => dns.names.set('chat.internal', 'SERVFAIL'),
    () => dns.names.delete('chat.internal'),
    () => dns.names.set('chat.internal', {}),
  ]
  for (const [index, fail] of failures.entries()) {
    fail()
    if (index < 2) await problems.until(({ length }) => length === index + 1)
    const asked = dns.questions
    await expect.poll(() => dns.questions, { timeout: 20_000 }).toBeGreaterThan(asked + 5)
  }
  expect(problems.items.map(({ code }) => code)).toEqual(['NOT_READY', 'NOT_READY'])
  expect(problems.items.map(String).join()).toMatch(/ESERVFAIL.*ENODATA/)
  const before = answers.items.length
  dns.names.set('chat.internal', { A: ['10.0.0.2'] })
  await until(['10.0.0.2 80 1'])
  expect(answers.items).toHaveLength(before + 1)
})

test('an answer is bounded', async () => {
  const dns = await DnsServer.start()
  // What fits into a packet without TCP.
  const A = Array.from({ length: 30 }, (_, n) => `10.0.1.${n}`)
  const names = Array.from({ length: 12 }, (_, n) => `t${n}.internal`)
  for (const [n, name] of names.entries())
    dns.names.set(name, { A: A.map((text) => text.replace('1.', `${n}.`)) })
  dns.names.set('_x._tcp.internal', {
    SRV: names.map((name) => ({ priority: 1, weight: 1, port: 80, name })),
  })
  const { answers } = discover(dns, { name: '_x._tcp.internal', type: 'SRV' })
  await answers.until(({ length }) => length > 0)
  expect(answers.items[0]).toHaveLength(256)
})

test('every address is an upstream that is probed, checked and pinned', async () => {
  const dns = await DnsServer.start()
  const server = await UpstreamServer.start()
  dns.names.set('chat.internal', { A: ['127.0.0.1'] })
  const query = { name: 'chat.internal', port: server.port, intervalMs: 50, servers: [dns.address] }
  // What DNS says does not make it loopback.
  const { directory, problems } = startDirectory([pool('open', { dns: query })])
  await directory.settled()
  expect(directory.list()).toEqual([
    expect.objectContaining({
      pool: 'open',
      health: 'unresolved',
      reason: expect.stringContaining('loopback'),
    }),
  ])
  expect(server.connections).toBe(0)
  expect(String(problems.items[0])).toContain('loopback')
  directory.close()

  const probe = { path: '/', intervalMs: 100, timeoutMs: 2_000, failures: 3 }
  const fenced = startDirectory([pool('loop', { dns: query, probe, allowedAddresses: ['127.0.0.0/8'] })])
  await fenced.directory.settled()
  expect(fenced.directory.all()).toEqual([
    expect.objectContaining({
      id: server.id,
      origin: 'dns',
      url: new URL(`http://chat.internal:${server.port}`),
      address: { host: '127.0.0.1', port: server.port },
      healthy: true,
    }),
  ])
  expect(server.requests[0]).toBe(`GET / chat.internal:${server.port}`)
  // A name server that was taken over leads nowhere else.
  dns.names.set('chat.internal', { A: ['169.254.169.254'] })
  await fenced.changes.until((items) => items.at(-1)?.type === 'removed')
  await fenced.problems.until(({ length }) => length > 0)
  expect(fenced.directory.all()).toEqual([])
  expect(fenced.directory.list()[0]).toMatchObject({
    id: `169.254.169.254:${server.port}`,
    health: 'unresolved',
    address: null,
  })
})
