import { describe, expect, test } from 'vitest'
import { MemoryCluster } from '../../src/cluster/memory.ts'
import { lookupAddresses } from '../../src/cluster/name-lookup.ts'
import { memoryShared, pool, quickProbe, startDirectory } from '../support/directory.ts'
import { UpstreamServer } from '../support/upstream-server.ts'

const drain = { deadlineMs: 60_000, ratePerSecond: null }

describe('configured upstreams', () => {
  test('are healthy once a probe has succeeded, down when they are killed, back when they return', async () => {
    const [a, b] = [await UpstreamServer.start(), await UpstreamServer.start()]
    const probe = { ...quickProbe, path: '/healthz' }
    const { directory, untilHealthy, lines, changes } = startDirectory([
      pool('legacy', { probe, upstreams: [{ url: a.url }, { url: b.url, id: 'b', weight: 2 }] }),
    ])
    expect(directory.list().map(({ health }) => health)).toEqual(['unresolved', 'unresolved'])
    await directory.settled()
    expect(directory.all()).toEqual([
      {
        id: a.id,
        pool: 'legacy',
        origin: 'config',
        url: new URL(a.url),
        address: { host: '127.0.0.1', port: a.port },
        weight: 1,
        drain: null,
        healthy: true,
      },
      expect.objectContaining({ id: 'b', weight: 2, healthy: true }),
    ])
    await a.kill()
    await untilHealthy(a.id, false)
    expect(changes.items.at(-1)).toMatchObject({ type: 'unhealthy', reason: 'ECONNREFUSED' })
    expect(directory.list()[0]).toMatchObject({ health: 'unhealthy', reason: 'ECONNREFUSED' })
    await a.restart()
    await untilHealthy(a.id)
    expect(lines().filter((line) => line.endsWith(a.id))).toEqual([
      `added ${a.id}`,
      `healthy ${a.id}`,
      `unhealthy ${a.id}`,
      `healthy ${a.id}`,
    ])
    expect(directory.get('b')!.healthy).toBe(true)
  })

  test('that are dead from the beginning are never given to anybody', async () => {
    const server = await UpstreamServer.start()
    await server.kill()
    const { directory, untilHealthy } = startDirectory([pool('legacy', { upstreams: [{ url: server.url }] })])
    await directory.settled()
    expect(directory.get(server.id)!.healthy).toBe(false)
    await server.restart()
    await untilHealthy(server.id)
  })

  test.each([
    [{ upstreams: [{ url: 'http://10.0.0.1/path' }] }, /pools\.x\.upstreams: expected an http:/],
    [{ upstreams: [{ url: `http://${'a'.repeat(63)}.b` }] }, /needs an id/],
    [{ allowedAddresses: ['10.0.0.0/33'] }, /pools\.x\.allowedAddresses: .*10\.0\.0\.0\/33/],
    [{ dns: { name: 'a.b', servers: ['nonsense'] } }, /dns\.servers/],
  ])('mistakes have their place: %j', (change, message) => {
    expect(() => startDirectory([pool('x', change)])).toThrow(message)
  })

  test('two of one id: the first one counts, and it is said once', async () => {
    const server = await UpstreamServer.start()
    const upstreams = [{ url: server.url }]
    const { directory, problems } = startDirectory([pool('one', { upstreams }), pool('two', { upstreams })])
    await directory.settled()
    expect(directory.all().map(({ pool }) => pool)).toEqual(['one'])
    expect(problems.items.map(String)).toEqual([
      `EvenkeelError: upstream ${server.id} of pool two is not used: pool one has this id`,
    ])
  })
})

test('a name that begins to lead elsewhere is not followed to where nobody may go; what was checked is what is dialled', async () => {
  let answer = ['10.0.0.1']
  let ahead = 0
  const dialled = new Set<string>()
  const { directory, problems, changes } = startDirectory(
    [pool('legacy', { upstreams: [{ url: 'http://chat.example:3000', id: 'chat' }] })],
    {
      lookup: async () => answer,
      now: () => performance.now() + ahead,
      probe: async ({ address }) => {
        dialled.add(address.host)
        return null
      },
    },
  )
  await directory.settled()
  answer = ['169.254.169.254']
  ahead += 31_000
  await problems.until(({ length }) => length > 0)
  expect(String(problems.items[0])).toContain(
    'keeps the address that it has: 169.254.169.254 is a metadata address',
  )
  expect(directory.get('chat')).toMatchObject({ address: { host: '10.0.0.1', port: 3000 }, healthy: true })
  expect(directory.list()[0]).toMatchObject({ address: '10.0.0.1:3000', health: 'healthy' })
  answer = ['169.254.169.254', '10.0.0.2']
  ahead += 31_000
  await changes.until((items) => items.at(-1)?.type === 'changed')
  expect(directory.get('chat')!.address.host).toBe('10.0.0.2')
  answer = ['10.0.0.3', '10.0.0.2']
  ahead += 31_000
  await expect.poll(() => directory.counters.probes.success, { timeout: 20_000 }).toBeGreaterThan(5)
  expect([...dialled]).toEqual(['10.0.0.1', '10.0.0.2'])
  expect(problems.items).toHaveLength(1)
})

test('a process that was stopped takes nobody for dead', async () => {
  // Slow enough to be waited for at any moment, and never in time after a stop.
  const server = await UpstreamServer.start((_request, response) => void setTimeout(() => response.end(), 50))
  const probe = { path: '/', intervalMs: 60, timeoutMs: 150, failures: 1 }
  const { directory, lines } = startDirectory([pool('legacy', { probe, upstreams: [{ url: server.url }] })])
  await directory.settled()
  for (let n = 0; n < 3; n++) {
    const before = directory.counters.probes.success
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 800)
    await expect
      .poll(() => directory.counters.probes.success, { timeout: 20_000 })
      .toBeGreaterThan(before + 1)
  }
  expect(lines()).toEqual([`added ${server.id}`, `healthy ${server.id}`])
})

describe('traffic', () => {
  const upstreamsOf = (servers: UpstreamServer[]) => servers.map(({ url }) => ({ url }))
  /** Probes by themselves do not come in the time of a test. */
  const rareProbe = { ...quickProbe, intervalMs: 60_000 }

  test('connections that fail take an upstream away at once, and the next probe, which comes soon, brings it back', async () => {
    const servers = [await UpstreamServer.start(), await UpstreamServer.start()]
    const { directory, untilHealthy, changes } = startDirectory([
      pool('legacy', { probe: rareProbe, upstreams: upstreamsOf(servers) }),
    ])
    await directory.settled()
    const [{ id }] = servers as [UpstreamServer]
    for (let n = 0; n < 3; n++) directory.report(id, 'connect-failed')
    expect(directory.get(id)!.healthy).toBe(false)
    await untilHealthy(id)
    const lost = changes.items.find(({ type }) => type === 'unhealthy')!
    expect([lost.upstream.id, lost.reason]).toEqual([id, 'connections to it fail'])
    expect(directory.counters.ejections['connect-failed']).toBe(1)
  })

  test('a killed upstream is noticed by its traffic long before its probes', async () => {
    const servers = [await UpstreamServer.start(), await UpstreamServer.start()]
    const { directory, untilHealthy } = startDirectory([
      pool('legacy', { probe: { ...rareProbe, failures: 1 }, upstreams: upstreamsOf(servers) }),
    ])
    await directory.settled()
    await servers[0]!.kill()
    directory.report(servers[0]!.id, 'broken')
    await untilHealthy(servers[0]!.id, false)
  })

  test('errors eject, at most half of a pool, though probes succeed', async () => {
    const servers = await Promise.all(Array.from({ length: 4 }, () => UpstreamServer.start()))
    const { directory } = startDirectory([pool('legacy', { upstreams: upstreamsOf(servers) })])
    await directory.settled()
    for (const { id } of servers) for (let n = 0; n < 10; n++) directory.report(id, 'error-response')
    const health = directory.list().map((view) => [view.health, view.reason])
    const ejected = ['ejected', 'it answers with errors']
    expect(health).toEqual([ejected, ejected, ['healthy', null], ['healthy', null]])
    expect(directory.counters.ejections['error-response']).toBe(2)
    const before = directory.counters.probes.success
    await expect
      .poll(() => directory.counters.probes.success, { timeout: 20_000 })
      .toBeGreaterThan(before + 8)
    expect(directory.get(servers[0]!.id)!.healthy).toBe(false)
    directory.report('nobody', 'connect-failed')
  })
})

describe('shared upstreams', () => {
  test('one adds, all find; weight and drain are the same at all; one removes, all lose', async () => {
    const cluster = new MemoryCluster({ limits: { leaseRefreshMs: 100 } })
    const configured = await UpstreamServer.start()
    const added = await UpstreamServer.start()
    const settings = [pool('legacy', { upstreams: [{ url: configured.url }] })]
    const one = startDirectory(settings, { shared: memoryShared(cluster) })
    const two = startDirectory(settings, { shared: memoryShared(cluster) })
    const view = await one.directory.add({ pool: 'legacy', url: added.url, weight: 3 })
    expect(view).toMatchObject({ id: added.id, origin: 'store', weight: 3, url: added.url })
    await two.untilHealthy(added.id)
    expect(two.directory.get(added.id)).toMatchObject({ weight: 3, origin: 'store', drain: null })

    for (const { id } of [configured, added]) {
      two.directory.setWeight(id, 5)
      expect(two.directory.get(id)!.weight).toBe(5)
      one.directory.setDrain(id, drain)
      for (const { directory, changes } of [one, two]) {
        await changes.until(() => {
          const { weight, drain } = directory.get(id)!
          return weight === 5 && drain !== null
        })
      }
      // A gateway that comes later knows it too.
      const late = startDirectory(settings, { shared: memoryShared(cluster) })
      await late.directory.settled()
      expect(late.directory.get(id)).toMatchObject({ weight: 5, drain, healthy: true })
      one.directory.setDrain(id, null)
      await two.changes.until(() => two.directory.get(id)!.drain === null)
      expect(two.lines().filter((line) => line === `changed ${id}`).length).toBeLessThanOrEqual(3)
    }
    await two.directory.remove(added.id)
    for (const { directory, changes, lines } of [one, two]) {
      await changes.until(() => directory.get(added.id) === undefined)
      expect(lines().filter((line) => line === `removed ${added.id}`)).toHaveLength(1)
    }
    await expect(one.directory.remove(added.id)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(one.directory.remove(configured.id)).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(one.problems.items).toEqual([])
  })

  test('what any program writes there is found; pools that are not configured here are not dialled', async () => {
    const cluster = new MemoryCluster({ limits: { leaseRefreshMs: 50 } })
    const server = await UpstreamServer.start()
    const { directory, untilHealthy, problems } = startDirectory([pool('legacy')], {
      shared: memoryShared(cluster),
    })
    cluster.plantUpstream('entries', 'planted', JSON.stringify({ pool: 'legacy', url: server.url }))
    cluster.plantUpstream('entries', 'foreign', JSON.stringify({ pool: 'other', url: server.url }))
    await untilHealthy('planted')
    expect(directory.get('foreign')).toBeUndefined()
    expect(problems.items.map(String)).toEqual([
      'EvenkeelError: upstream foreign is not used: its pool other is not configured here',
    ])
    // The same id with another URL is another server.
    const other = await UpstreamServer.start()
    cluster.plantUpstream('entries', 'planted', JSON.stringify({ pool: 'legacy', url: other.url }))
    await expect.poll(() => directory.get('planted')?.url.origin, { timeout: 20_000 }).toBe(other.url)
    await untilHealthy('planted')
  })

  test.each([
    [{ pool: 'nope' }, 'BAD_REQUEST', 'known: legacy'],
    [{ url: 'http://10.0.0.1/path' }, 'BAD_REQUEST', 'url: expected'],
    [{ url: 'ws://10.0.0.1' }, 'BAD_REQUEST', 'url: expected'],
    [{ weight: 0 }, 'BAD_REQUEST', 'weight'],
    [{ id: 'a/b' }, 'BAD_REQUEST', 'id: expected'],
    [{ url: 'http://no-such-host.invalid' }, 'BAD_REQUEST', 'cannot be resolved'],
    [{ url: 'http://169.254.169.254' }, 'FORBIDDEN', 'metadata'],
    [{ url: 'http://[fd00:ec2::254]' }, 'FORBIDDEN', 'metadata'],
    [{ url: 'http://[::ffff:169.254.169.254]' }, 'FORBIDDEN', 'metadata'],
    [{ url: 'http://0xa9fea9fe' }, 'FORBIDDEN', 'metadata'],
    [{ url: 'http://0.0.0.0:3000' }, 'FORBIDDEN', 'unspecified'],
    [{ url: 'http://[ff02::1]' }, 'FORBIDDEN', 'multicast'],
    [{ url: 'http://rebinding.example' }, 'FORBIDDEN', 'loopback'],
    [{ url: 'http://127.0.0.1:8081' }, 'FORBIDDEN', 'the gateway itself'],
    [{ pool: 'fenced', url: 'http://192.168.0.1' }, 'FORBIDDEN', 'not among'],
    [{ pool: 'fenced', url: 'http://127.0.0.1:3000' }, 'FORBIDDEN', 'not among'],
    [{ id: 'configured' }, 'CONFLICT', 'already'],
  ])('%j is refused and nothing is dialled: %s', async (change, code, message) => {
    let dialled = 0
    const { directory } = startDirectory(
      [
        pool('legacy', { upstreams: [{ url: 'http://10.9.9.9', id: 'configured' }] }),
        pool('fenced', { allowedAddresses: ['10.0.0.0/8'] }),
      ],
      {
        probe: async ({ address }) => {
          if (address.host !== '10.9.9.9') dialled++
          return 'not now'
        },
        refuse: ({ port }) => (port === 8081 ? 'this is the gateway itself' : null),
        lookup: (host) =>
          host === 'rebinding.example' ? Promise.resolve(['127.0.0.1']) : lookupAddresses(host),
      },
    )
    const refusal = expect.objectContaining({ code, message: expect.stringContaining(message) })
    const added = directory.add({ pool: 'legacy', url: 'http://10.0.0.1:3000', ...change })
    await expect(added).rejects.toEqual(refusal)
    expect([dialled, directory.all().filter(({ id }) => id !== 'configured')]).toEqual([0, []])
  })
})
