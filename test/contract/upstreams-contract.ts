import { expect, onTestFinished, test } from 'vitest'
import type { SharedUpstreams, StoredUpstream, StoredUpstreams } from '../../src/cluster/upstreams.ts'
import { upstreamSettingsMax, upstreamsMax } from '../../src/cluster/upstreams.ts'
import { Recorder } from '../support/recorder.ts'
import { joinMany, type TestMember, type World } from './worlds.ts'

const a: StoredUpstream = { id: 'a', pool: 'legacy', url: 'http://10.0.0.1:3000', weight: 1 }
const b: StoredUpstream = { id: 'b', pool: 'other', url: 'https://chat.internal', weight: 2.5 }
const order = { deadlineMs: 60_000, ratePerSecond: null }

/** Each content that a member was told. */
function watch({ upstreams }: { upstreams: SharedUpstreams }): Recorder<StoredUpstreams> {
  const recorder = new Recorder<StoredUpstreams>()
  onTestFinished(upstreams.watch(recorder.add))
  return recorder
}

const ids = (items: readonly StoredUpstreams[]) => [...(items.at(-1)?.upstreams.keys() ?? [])]
const last = (recorder: Recorder<StoredUpstreams>) => recorder.items.at(-1)!
const plain = ({ pool, url, weight }: StoredUpstream) => JSON.stringify({ pool, url, weight })

/** What every list of upstreams does, wherever it is kept. */
export function upstreamsContract(world: World): void {
  test('all gateways find what one adds, and lose what one removes, early watchers and late ones', async () => {
    const cluster = world.createCluster()
    const [one, two] = (await joinMany(cluster, 2)) as [TestMember, TestMember]
    const seen = [watch(one), watch(two)]
    expect(seen[0]!.items).toEqual([])
    await one.upstreams.add(a)
    await two.upstreams.add(b)
    for (const recorder of seen) await recorder.until((items) => ids(items).length === 2)
    expect(last(seen[0]!).upstreams).toEqual(new Map(Object.entries({ a, b })))

    const [late] = (await joinMany(cluster, 1)) as [TestMember]
    const seenLate = watch(late)
    await seenLate.until((items) => ids(items).length === 2)
    expect(await late.upstreams.remove('a')).toBe(true)
    expect(await late.upstreams.remove('a')).toBe(false)
    for (const recorder of [...seen, seenLate]) await recorder.until((items) => String(ids(items)) === 'b')
    expect(late.upstreams.status()).toEqual({ ready: true, reason: null })
  })

  test('changes are told when they happen, not only found when looked for', async () => {
    const never = 600_000
    const cluster = world.createCluster({ leaseMs: 3 * never, leaseRefreshMs: never })
    const [one, two] = (await joinMany(cluster, 2)) as [TestMember, TestMember]
    const seen = watch(two)
    await seen.until((items) => items.length === 1)
    await one.upstreams.add(a)
    await seen.until((items) => ids(items).length === 1)
    one.upstreams.set('a', { weight: 3 })
    await seen.until((items) => items.at(-1)!.settings.get('a')?.weight === 3)
    await one.upstreams.remove('a')
    await seen.until((items) => ids(items).length === 0 && items.at(-1)!.settings.size === 0)
  })

  test('an id is one upstream; to add the same again is no mistake', async () => {
    const [one, two] = (await joinMany(world.createCluster(), 2)) as [TestMember, TestMember]
    await one.upstreams.add(a)
    await two.upstreams.add(a)
    await expect(two.upstreams.add({ ...a, weight: 2 })).rejects.toMatchObject({ code: 'CONFLICT' })
    await expect(two.upstreams.add({ ...a, pool: 'other' })).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await two.upstreams.remove('a')).toBe(true)
    await two.upstreams.add({ ...a, weight: 2 })
  })

  test.each([
    ['id', { id: 'a/b' }],
    ['id', { id: '' }],
    ['pool', { pool: 'x y' }],
    ['url', { url: 'ftp://a' }],
    ['url', { url: 'http://user:secret@a' }],
    ['weight', { weight: 0 }],
    ['weight', { weight: Number.NaN }],
  ])('a bad %s is refused: %j', async (field, change) => {
    const [{ upstreams }] = (await joinMany(world.createCluster(), 1)) as [TestMember]
    const refusal = expect.objectContaining({ code: 'BAD_REQUEST', message: expect.stringContaining(field) })
    await expect(upstreams.add({ ...a, ...change })).rejects.toEqual(refusal)
    expect((await upstreams.add({ ...a, ...change }).catch(String)) as string).not.toContain('secret')
  })

  test('settings hold here at once and at all gateways soon, also those of upstreams listed elsewhere', async () => {
    const [one, two] = (await joinMany(world.createCluster(), 2)) as [TestMember, TestMember]
    const seen = [watch(one), watch(two)]
    await seen[0]!.until((items) => items.length === 1)
    one.upstreams.set('listed-elsewhere', { weight: 3 })
    expect(last(seen[0]!).settings.get('listed-elsewhere')).toEqual({ weight: 3 })
    await seen[1]!.until((items) => items.at(-1)?.settings.size === 1)
    // Two operators at two gateways: neither takes back what the other one did.
    two.upstreams.set('listed-elsewhere', { drain: order })
    one.upstreams.set('listed-elsewhere', { weight: 4 })
    for (const recorder of seen) {
      await recorder.until((items) => {
        const { weight, drain } = items.at(-1)!.settings.get('listed-elsewhere') ?? {}
        return weight === 4 && drain !== undefined
      })
      expect(last(recorder).settings).toEqual(new Map([['listed-elsewhere', { weight: 4, drain: order }]]))
    }
    two.upstreams.set('listed-elsewhere', { drain: null })
    for (const recorder of seen) {
      await recorder.until((items) => items.at(-1)!.settings.get('listed-elsewhere')?.drain === undefined)
    }
    one.upstreams.set('listed-elsewhere', { weight: null })
    for (const recorder of seen) await recorder.until((items) => items.at(-1)!.settings.size === 0)
  })

  test('of many wishes the last one stays, and nobody who wished sees an older one again', async () => {
    const [one, two] = (await joinMany(world.createCluster(), 2)) as [TestMember, TestMember]
    const seen = [watch(one), watch(two)]
    await seen[0]!.until((items) => items.length === 1)
    for (let weight = 1; weight <= 50; weight++) {
      one.upstreams.set('x', { weight })
      if (weight % 10 === 0) await new Promise(setImmediate)
    }
    await seen[1]!.until((items) => items.at(-1)!.settings.get('x')?.weight === 50)
    one.upstreams.set('end', { weight: 1 })
    for (const recorder of seen) await recorder.until((items) => items.at(-1)!.settings.has('end'))
    const weights = seen[0]!.items.map(({ settings }) => settings.get('x')?.weight ?? 0)
    expect(weights).toEqual(weights.toSorted((x, y) => x - y))
    expect(last(seen[1]!).settings.get('x')).toEqual({ weight: 50 })
  })

  test('a new upstream of a known id begins without the settings of the old one', async () => {
    const [one, two] = (await joinMany(world.createCluster(), 2)) as [TestMember, TestMember]
    const seen = watch(two)
    await one.upstreams.add(a)
    one.upstreams.set('a', { drain: order, weight: 9 })
    await seen.until((items) => items.at(-1)?.settings.get('a')?.weight === 9)
    await one.upstreams.remove('a')
    await one.upstreams.add({ ...a, url: 'http://10.0.0.2:3000' })
    await seen.until((items) => items.at(-1)!.upstreams.get('a')?.url === 'http://10.0.0.2:3000')
    expect(last(seen).settings.size).toBe(0)
  })

  test('what others write is found without a word from them; junk is reported once and ignored', async () => {
    const cluster = world.createCluster()
    const [{ problems, ...member }] = (await joinMany(cluster, 1)) as [TestMember]
    const seen = watch(member)
    const entries = [
      ['a', plain(a)],
      ['no-weight', '{"pool":"legacy","url":"http://10.0.0.9"}'],
      ['more', '{"pool":"legacy","url":"http://10.0.0.8","weight":1,"later":{"version":2}}'],
      ['not/an id', plain(a)],
      ['not-json', '{'],
      ['null', 'null'],
      ['list', '[]'],
      ['no-pool', '{"url":"http://10.0.0.9"}'],
      ['bad-url', '{"pool":"legacy","url":"http://user:hunter2@10.0.0.9"}'],
      ['bad-weight', '{"pool":"legacy","url":"http://10.0.0.9","weight":-1}'],
      ['large', `{"pool":"legacy","url":"http://10.0.0.9","x":"${'x'.repeat(2_000)}"}`],
    ] as const
    const settings = [
      ['weight/a', '{"weight":7}'],
      ['drain/a', '{"drain":{}}'],
      ['weight/b', '{"weight":"7"}'],
      ['drain/b', '{"drain":{"deadlineMs":-1}}'],
      ['colour/a', '{"colour":1}'],
      ['weight/', '{"weight":7}'],
    ] as const
    await cluster.plantUpstreams('entries', entries)
    await cluster.plantUpstreams('settings', settings)
    await problems.until((items) => items.length >= 12)
    await seen.until((items) => ids(items).length === 3 && items.at(-1)!.settings.size === 1)
    expect(last(seen).upstreams.get('a')).toEqual(a)
    expect(last(seen).upstreams.get('no-weight')?.weight).toBe(1)
    const drain = { deadlineMs: null, ratePerSecond: null }
    expect(last(seen).settings).toEqual(new Map([['a', { weight: 7, drain }]]))

    await cluster.plantUpstreams('entries', [['z', '{"pool":"legacy","url":"http://10.0.0.9"}']])
    await seen.until((items) => ids(items).includes('z'))
    await cluster.plantUpstreams('entries', [['a', null]])
    await seen.until((items) => !ids(items).includes('a'))
    expect(problems.items).toHaveLength(12)
    expect(problems.items.every(({ code }) => code === 'RECORD_INVALID')).toBe(true)
    expect(problems.items.map(String).join()).not.toContain('hunter2')
  })

  test('bounded: upstreams are refused, the oldest setting goes', async () => {
    const cluster = world.createCluster()
    const [{ problems, ...member }] = (await joinMany(cluster, 1)) as [TestMember]
    const many = (count: number, pair: (n: number) => [string, string]) =>
      Array.from({ length: count }, (_, n) => pair(n))
    await cluster.plantUpstreams(
      'entries',
      many(upstreamsMax, (n) => [`u${n}`, plain(a)]),
    )
    await expect(member.upstreams.add(a)).rejects.toMatchObject({ code: 'TOO_MANY_REQUESTS' })
    await cluster.plantUpstreams(
      'entries',
      many(3, (n) => [`z${n}`, plain(a)]),
    )
    const setting = (n: number) => JSON.stringify({ weight: 2, at: 1_000 + ((n * 7) % upstreamSettingsMax) })
    await cluster.plantUpstreams(
      'settings',
      many(upstreamSettingsMax, (n) => [`weight/s${n}`, setting(n)]),
    )
    const seen = watch(member)
    await seen.until((items) => ids(items).length === upstreamsMax)
    await problems.until((items) => items.length === 1)
    expect(String(problems.items[0])).toContain('3 more are ignored')
    member.upstreams.set('new', { weight: 5 })
    await seen.until(
      (items) => items.at(-1)!.settings.size === upstreamSettingsMax && !items.at(-1)!.settings.has('s0'),
    )
    expect(last(seen).settings.get('new')).toEqual({ weight: 5 })
  })

  test('closing ends it', async () => {
    const [one, two] = (await joinMany(world.createCluster(), 2)) as [TestMember, TestMember]
    const closed = watch(one)
    const open = watch(two)
    await closed.until((items) => items.length === 1)
    await one.upstreams.close()
    await two.upstreams.add(a)
    await open.until((items) => ids(items).length === 1)
    await two.upstreams.add(b)
    await open.until((items) => ids(items).length === 2)
    expect(closed.items).toHaveLength(1)
    await expect(one.upstreams.add(b)).rejects.toMatchObject({ code: 'NOT_READY' })
    await expect(one.upstreams.remove('b')).rejects.toMatchObject({ code: 'NOT_READY' })
    one.upstreams.set('b', { weight: 2 })
  })
}
