import fc from 'fast-check'
import { expect, test } from 'vitest'
import { BroadcastLog, HeardBefore } from '../../src/sdk/socket-io/broadcast-log.ts'

/**
 * One order for all, as Redis gives it; each node hears a prefix of it at any time, but its own broadcasts when it makes them. Whenever the source
 * lets go and the target takes over, each broadcast is given once.
 */
test('whatever was heard where: each broadcast is given once', () => {
  const said = fc.array(
    fc.constantFrom<'source' | 'target' | 'third' | 'outsider'>('source', 'target', 'third', 'outsider'),
    { maxLength: 30 },
  )
  fc.assert(
    fc.property(said, said, said, fc.nat(20), fc.nat(20), (before, between, after, sourceLag, targetLag) => {
      const order = [...before, 'fence' as const, ...between]
      const seqs = new Map<string, number>()
      const numbered = [...order, ...after].map((who, at) => {
        const seq = (seqs.get(who) ?? 0) + 1
        seqs.set(who, seq)
        return { who, at, origin: who === 'outsider' || who === 'fence' ? null : ([who, seq] as const) }
      })
      const given: number[] = []
      const source = new BroadcastLog<number>('source', () => 0)
      const target = new BroadcastLog<number>('target', () => 0)
      // The source lets go when all of `order` has been said, and has heard the fence at least.
      const cut = Math.max(before.length + 1, order.length - sourceLag)
      let othersAtFence = 0
      for (const { who, at, origin } of numbered.slice(0, order.length)) {
        const isHeard = who === 'source' || at < cut
        if (who === 'fence') othersAtFence = source.othersCount
        else if (isHeard) {
          source.broadcast(origin, at)
          given.push(at)
        }
      }
      const heard = source.heardUpTo(othersAtFence)
      // The target takes over when it has heard so much of it; the fence has been heard.
      const arrival = Math.max(before.length + 1, order.length - targetLag)
      const mark = target.open()
      const late: typeof numbered = []
      for (const one of numbered.slice(0, order.length)) {
        if (one.who === 'fence') target.fence(mark)
        else if (one.who === 'target' || one.at < arrival) target.broadcast(one.origin, one.at)
        else late.push(one)
      }
      const past = new HeardBefore(mark, heard)
      given.push(...target.take(mark, past))
      for (const { origin, at } of [...late, ...numbered.slice(order.length)]) {
        target.broadcast(origin, at)
        if (!past.has(origin, origin === null ? target.othersCount : 0)) given.push(at)
      }
      const all = numbered.filter(({ who }) => who !== 'fence').map(({ at }) => at)
      expect(given.toSorted((a, b) => a - b)).toEqual(all)
    }),
  )
})

test('nothing is kept while nobody reads, and no more than there is room for', () => {
  const log = new BroadcastLog<number>('a', () => 0)
  log.broadcast(null, 1)
  const mark = log.open()
  log.fence(mark)
  for (let n = 0; n < 20_000; n++) log.broadcast(null, n)
  expect(log.dropped).toBe(20_000 - 16_384)
  expect(log.take(mark, new HeardBefore(mark, null))).toHaveLength(16_384)
  expect(log.isKept).toBe(false)
  expect(log.heardUpTo(1)).toEqual({ numbered: [], others: 20_000 })
})

test('publishers that have been silent for longer than anybody lags are not told of', () => {
  let now = 0
  const log = new BroadcastLog<number>('a', () => now)
  log.broadcast(['b', 1], 1)
  now = 10_000
  log.broadcast(['c', 7], 2)
  now = 16_000
  expect(log.heardUpTo(0)).toEqual({ numbered: [['c', 7]], others: 0 })
})
