import { expect, test } from 'vitest'
import type { NodeEntry } from '../../src/cluster/entry.ts'
import { gatewayEntry, recordChanges } from '../support/clusters.ts'
import { Recorder } from '../support/recorder.ts'
import { joinMany, type TestMember, type World } from './worlds.ts'

const nodeEntry: NodeEntry = { kind: 'node', id: 'a', instance: 'instance-of-node-a', pool: 'chat' }

/** What every registry does, wherever its entries are. */
export function registryContract(world: World): void {
  test('all see who joins, changes and leaves, early watchers and late ones', async () => {
    const cluster = world.createCluster()
    const [a, b] = (await joinMany(cluster, 2)) as [TestMember, TestMember]
    const seenByA = recordChanges(a.registry)
    const seenByB = recordChanges(b.registry)
    const entry = gatewayEntry('a', { data: { zone: 'north', ports: [1, 2] } })
    expect(await a.registry.announce(entry)).toBe(true)
    expect(await b.registry.announce(nodeEntry)).toBe(true)
    const joined = ['joined gateway/a', 'joined node/a']
    await seenByA.until((items) => items.length === 2)
    await seenByB.until((items) => items.length === 2)
    expect([seenByA.items, seenByB.items].map((items) => items.toSorted())).toEqual([joined, joined])
    expect(b.registry.entries()).toEqual(expect.arrayContaining([entry, nodeEntry]))

    const draining = { ...entry, state: 'draining' as const }
    expect(await a.registry.announce(draining)).toBe(true)
    await seenByB.until((items) => items.length === 3)
    expect(seenByB.changes[2]).toEqual({ type: 'changed', entry: draining })

    const late = (await joinMany(cluster, 1))[0]!
    const seenLate = recordChanges(late.registry)
    await seenLate.until((items) => items.length === 2)
    expect(seenLate.items.toSorted()).toEqual(joined)

    await a.registry.withdraw()
    for (const seen of [seenByA, seenByB, seenLate])
      await seen.until((items) => items.at(-1) === 'left gateway/a')
    expect(late.registry.entries()).toEqual([nodeEntry])
  })

  test('a watcher of a known cluster is told of all entries, and never synchronously', async () => {
    const [{ registry }] = (await joinMany(world.createCluster(), 1)) as [TestMember]
    const first = recordChanges(registry)
    await registry.announce(gatewayEntry('a'))
    await first.until((items) => items.length === 1)
    const second = recordChanges(registry)
    expect(second.items).toEqual([])
    await second.until((items) => items.length === 1)
    expect(second.items).toEqual(['joined gateway/a'])
  })

  test('who dies without a word is gone after its lease; who lives stays', async () => {
    const [watcher, living, dying] = await joinMany(world.createCluster(), 3)
    const seen = recordChanges(watcher!.registry)
    const alsoSeen = recordChanges(living!.registry)
    await living!.registry.announce(gatewayEntry('living'))
    await dying!.registry.announce(gatewayEntry('dying'))
    await seen.until((items) => items.length === 2)
    // Closing does not withdraw.
    await dying!.registry.close()
    await seen.until((items) => items.includes('left gateway/dying'))
    await alsoSeen.until((items) => items.includes('left gateway/dying'))
    // By then the other one has outlived its first lease by its renewals.
    expect(seen.items.filter((item) => item.startsWith('left'))).toEqual(['left gateway/dying'])
    expect(alsoSeen.items.filter((item) => item.startsWith('left'))).toEqual(['left gateway/dying'])
  })

  test('an id is live from one instance at a time', async () => {
    const cluster = world.createCluster()
    const [a, b] = (await joinMany(cluster, 2)) as [TestMember, TestMember]
    const seen = recordChanges(b.registry)
    await a.registry.announce(gatewayEntry('x'))
    const rival = gatewayEntry('x', { instance: 'another-instance', state: 'draining' })
    await expect(b.registry.announce(rival)).rejects.toMatchObject({ code: 'CONFLICT' })
    // The same instance may announce again; another kind has ids of its own.
    expect(await a.registry.announce(gatewayEntry('x'))).toBe(true)
    expect(await b.registry.announce({ ...nodeEntry, id: 'x' })).toBe(true)
    await seen.until((items) => items.length === 2)
    expect(b.registry.entries()).toContainEqual(gatewayEntry('x'))

    await a.registry.withdraw()
    await seen.until((items) => items.includes('left gateway/x'))
    // What was refused is not kept: it does not come by itself in the time of a lease, which is several renewals.
    const [clock] = (await joinMany(cluster, 1)) as [TestMember]
    await clock.registry.announce(gatewayEntry('clock'))
    await clock.registry.close()
    await seen.until((items) => items.includes('left gateway/clock'))
    expect(b.registry.entries()).toEqual([{ ...nodeEntry, id: 'x' }])
    expect(await b.registry.announce(rival)).toBe(true)
    await seen.until((items) => items.filter((item) => item === 'joined gateway/x').length === 2)
  })

  test('the id of a dead process is free after its lease', async () => {
    const [a, b] = (await joinMany(world.createCluster(), 2)) as [TestMember, TestMember]
    await a.registry.announce(gatewayEntry('x'))
    await a.registry.close()
    const heir = gatewayEntry('x', { instance: 'instance-of-heir' })
    await expect(b.registry.announce(heir)).rejects.toMatchObject({ code: 'CONFLICT' })
    await expect
      .poll(() => b.registry.announce(heir).catch((error) => error.code), { timeout: 20_000 })
      .toBe(true)
    // What was refused before must not have been renewed for the dead one.
    const seen = recordChanges(b.registry)
    await seen.until((items) => items.length === 1)
    expect(seen.changes).toEqual([{ type: 'joined', entry: heir }])
  })

  test('withdrawing does not take away what is another’s', async () => {
    const [a, b] = (await joinMany(world.createCluster(), 2)) as [TestMember, TestMember]
    const seen = recordChanges(b.registry)
    await a.registry.announce(gatewayEntry('mine'))
    await b.registry.announce(gatewayEntry('other'))
    await seen.until((items) => items.length === 2)
    await expect(b.registry.announce(gatewayEntry('mine', { instance: 'a-thief-1' }))).rejects.toThrow()
    await b.registry.withdraw()
    await seen.until((items) => items.includes('left gateway/other'))
    expect(b.registry.entries()).toEqual([gatewayEntry('mine')])
  })

  test('who lost its id to another does not take the other’s entry along', async () => {
    const cluster = world.createCluster()
    const [a, b] = (await joinMany(cluster, 2)) as [TestMember, TestMember]
    const seen = recordChanges(b.registry)
    await a.registry.announce(gatewayEntry('x'))
    await seen.until((items) => items.length === 1)
    const heir = gatewayEntry('x', { instance: 'instance-of-heir' })
    await cluster.plant('gateway/x', JSON.stringify(heir))
    await a.registry.withdraw()
    await b.registry.announce(gatewayEntry('other'))
    await seen.until((items) => items.includes('joined gateway/other'))
    expect(b.registry.entries()).toContainEqual(heir)
  })

  test('changes are told when they happen, not only found when looked for', async () => {
    const never = 600_000
    const cluster = world.createCluster({ leaseMs: 3 * never, leaseRefreshMs: never })
    const [a, b] = (await joinMany(cluster, 2)) as [TestMember, TestMember]
    const seen = recordChanges(b.registry)
    await a.registry.announce(gatewayEntry('first'))
    await seen.until((items) => items.length === 1)
    await a.registry.announce(gatewayEntry('first', { state: 'draining' }))
    await seen.until((items) => items.length === 2)
    await a.registry.withdraw()
    await seen.until((items) => items.length === 3)
    expect(seen.items).toEqual(['joined gateway/first', 'changed gateway/first', 'left gateway/first'])
  })

  test('the end of a lease is looked for when it is due', async () => {
    const cluster = world.createCluster({ leaseMs: 1_000, leaseRefreshMs: 600_000 })
    const [a, b] = (await joinMany(cluster, 2)) as [TestMember, TestMember]
    const seen = recordChanges(b.registry)
    await a.registry.announce(gatewayEntry('a'))
    await seen.until((items) => items.includes('left gateway/a'))
    expect(seen.items).toEqual(['joined gateway/a', 'left gateway/a'])
  })

  test('a junk entry is ignored and reported once, and harms nobody', async () => {
    const cluster = world.createCluster()
    const [member] = (await joinMany(cluster, 1)) as [TestMember]
    const seen = recordChanges(member.registry)
    const junk: [key: string, json: string][] = [
      ['gateway/broken', '{'],
      ['gateway/array', '[]'],
      [
        'gateway/hostile',
        JSON.stringify(gatewayEntry('hostile', { internalUrl: 'http://169.254.169.254/' })),
      ],
      ['gateway/disguised', JSON.stringify(gatewayEntry('another'))],
      ['gateway/huge', JSON.stringify(gatewayEntry('huge', { data: { x: 'x'.repeat(9_000) } }))],
      ['unknown/kind', JSON.stringify({ ...gatewayEntry('kind'), kind: 'unknown' })],
    ]
    for (const [key, json] of junk) await cluster.plant(key, json)
    await member.registry.announce(gatewayEntry('good'))
    await member.problems.until((items) => items.length === junk.length)
    await seen.until((items) => items.includes('joined gateway/good'))
    await member.registry.announce(gatewayEntry('good', { state: 'draining' }))
    await seen.until((items) => items.includes('changed gateway/good'))
    expect(seen.items).toEqual(['joined gateway/good', 'changed gateway/good'])
    expect(member.problems.items.map(({ code }) => code)).toEqual(junk.map(() => 'RECORD_INVALID'))
    const messages = member.problems.items.map(({ message }) => message).join('\n')
    for (const [key] of junk) expect(messages).toContain(JSON.stringify(key))
  })

  test('bad entries are refused and not kept', async () => {
    const [{ registry }] = (await joinMany(world.createCluster(), 1)) as [TestMember]
    const seen = recordChanges(registry)
    const large = gatewayEntry('large', { data: { x: 'x'.repeat(9_000) } })
    await expect(registry.announce(large)).rejects.toMatchObject({ code: 'TOO_LARGE' })
    await expect(registry.announce(gatewayEntry('no spaces'))).rejects.toMatchObject({ code: 'BAD_REQUEST' })
    await registry.announce(gatewayEntry('good'))
    await seen.until((items) => items.length > 0)
    expect(registry.entries()).toEqual([gatewayEntry('good')])
  })

  test('a stopped watcher hears nothing more', async () => {
    const [{ registry }] = (await joinMany(world.createCluster(), 1)) as [TestMember]
    const stopped = new Recorder<unknown>()
    registry.watch(stopped.add)()
    const seen = recordChanges(registry)
    await registry.announce(gatewayEntry('a'))
    await seen.until((items) => items.length === 1)
    expect(stopped.items).toEqual([])
  })

  test('a closed registry takes nothing', async () => {
    const [{ registry }] = (await joinMany(world.createCluster(), 1)) as [TestMember]
    await registry.close()
    await expect(registry.announce(gatewayEntry('a'))).rejects.toMatchObject({ code: 'NOT_READY' })
    await expect(registry.lead('plan', 1_000)).rejects.toMatchObject({ code: 'NOT_READY' })
    await registry.withdraw()
  })
}
