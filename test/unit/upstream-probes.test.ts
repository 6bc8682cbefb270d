import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { DirectoryMember } from '../../src/gateway/directory-member.ts'
import { probeTickMs, UpstreamProbes } from '../../src/gateway/upstream-probes.ts'

const settings = { path: '/', intervalMs: 5_000, timeoutMs: 2_000, failures: 3 }

/** Probes of members in one pool, by a clock that stands until it is moved. */
function bench(count: number) {
  const members = new Map<string, DirectoryMember>()
  const begun: { id: string; at: number; end: (failure: string | null) => void }[] = []
  let now = 0
  const probes = new UpstreamProbes({
    members,
    settings: () => settings,
    probe: ({ url }) =>
      new Promise((end) => {
        begun.push({ id: url.hostname, at: now, end })
      }),
    now: () => now,
    random: () => 1,
    changed: () => {},
  })
  for (let n = 0; n < count; n++) {
    const url = new URL(`http://u${n}:80`)
    const spec = {
      id: `u${n}`,
      pool: 'p',
      url,
      weight: 1,
      origin: 'config' as const,
      address: null,
      loopback: true,
    }
    const member = new DirectoryMember(spec, settings, now)
    member.address = { host: '127.0.0.1', port: 80 }
    members.set(member.id, member)
    probes.add(member)
  }
  return {
    probes,
    begun,
    member: members.get('u0')!,
    others: [...members.values()].slice(1),
    /** Moves the clock tick by tick, as a process that runs does. */
    async run(ms: number, answer?: string | null) {
      for (const end = now + ms; now < end; ) {
        now += probeTickMs
        probes.tick()
        if (answer !== undefined) for (const { end } of begun.splice(0)) end(answer)
        await nextTurn()
      }
    },
    /** Moves the clock while nothing runs. */
    stop(ms: number) {
      now += ms
    },
  }
}

test('a killed upstream is out within 20 s, and back within 10 s of its return', async () => {
  const { member, run } = bench(1)
  await run(30_000, null)
  expect(member.probe.healthy).toBe(true)
  let seconds = 0
  for (; member.probe.healthy; seconds++) await run(1_000, 'refused')
  expect(seconds).toBeLessThanOrEqual(16)
  await run(60_000, 'refused')
  for (seconds = 0; !member.probe.healthy; seconds++) await run(1_000, null)
  expect(seconds).toBeLessThanOrEqual(6)
})

test('a stalled process takes no time-out for a failure, whichever it sees first', async () => {
  for (const tickFirst of [true, false]) {
    const { probes, begun, member, run, stop } = bench(1)
    await run(5_000, null)
    for (let round = 0; round < 5; round++) {
      while (begun.length === 0) await run(probeTickMs)
      stop(60_000)
      if (tickFirst) probes.tick()
      begun.shift()!.end('no answer within 2000 ms')
      await nextTurn()
      if (!tickFirst) probes.tick()
      await nextTurn()
      expect(member.probe.healthy).toBe(true)
      // It looks again at once.
      await run(probeTickMs)
      expect(begun).toHaveLength(1)
    }
    expect(probes.counters.probes).toMatchObject({ failure: 0, void: 5 })
  }
})

test('what connections met during a stall ejects nobody', async () => {
  const { probes, member, run, stop } = bench(2)
  await run(5_000, null)
  for (let n = 0; n < 2; n++) probes.report(member, 'connect-failed')
  stop(10_000)
  for (let n = 0; n < 5; n++) probes.report(member, 'connect-failed')
  expect(probes.ejection(member)).toBeNull()
  probes.tick()
  // Those before it do not count either.
  for (let n = 0; n < 2; n++) probes.report(member, 'connect-failed')
  expect(probes.ejection(member)).toBeNull()
  probes.report(member, 'connect-failed')
  expect(probes.ejection(member)).toBe('connections to it fail')
})

test('a probe that fails does not bring back what traffic took away, though it is not the last straw', async () => {
  const { probes, member, run, begun } = bench(2)
  await run(5_000, null)
  for (let n = 0; n < 3; n++) probes.report(member, 'connect-failed')
  await run(600)
  for (const { end } of begun.splice(0)) end('refused')
  await nextTurn()
  expect([member.probe.healthy, probes.ejection(member)]).toEqual([true, 'connections to it fail'])
  await run(6_000, null)
  expect(probes.ejection(member)).toBeNull()
})

test('one probe that fails makes nobody down, so it brings nobody else back', async () => {
  const { probes, member, others, begun, run } = bench(2)
  await run(5_000, null)
  for (let n = 0; n < 5; n++) probes.report(others[0]!, 'error-response')
  probes.report(member, 'connect-failed')
  await run(600)
  for (const { id, end } of begun.splice(0)) end(id === member.id ? 'refused' : null)
  await nextTurn()
  expect([member.probe.healthy, probes.ejection(others[0]!)]).toEqual([true, 'it answers with errors'])
})

test('few probes at once, and all get their turn, however slow the first ones are', async () => {
  const { begun, run } = bench(1_000)
  const seen = new Set<string>()
  for (let round = 0; round < 5; round++) {
    await run(6_000)
    expect(begun).toHaveLength(256)
    for (const { id, end } of begun.splice(0)) {
      seen.add(id)
      end('no answer within 2000 ms')
    }
    await nextTurn()
  }
  expect(seen.size).toBe(1_000)
})

test('the answer to a probe of an upstream that has left is nobody’s', async () => {
  const { probes, begun, member, run } = bench(1)
  await run(probeTickMs)
  probes.remove(member)
  begun[0]!.end(null)
  await nextTurn()
  expect([member.probe.healthy, probes.counters.probes.success]).toEqual([false, 0])
})
