import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { type Entry, entryKey } from '../../../src/cluster/entry.ts'
import { LeasedRegistry } from '../../../src/cluster/leased-registry.ts'
import type { RegistryStore } from '../../../src/cluster/registry.ts'
import { EvenkeelError } from '../../../src/protocol/errors.ts'
import { gatewayEntry } from '../../support/clusters.ts'

const leaseMs = 6_000
const leaseRefreshMs = 2_000

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** A store whose content and failures the test sets. */
function createStore() {
  const state = {
    entries: [] as Entry[],
    revision: 1,
    failure: null as EvenkeelError | null,
    puts: [] as string[],
    reads: 0,
    emit: (_event: 'changed' | 'restored'): void => {},
  }
  const store: RegistryStore = {
    async put(key) {
      if (state.failure !== null) throw state.failure
      state.puts.push(key)
      return true
    },
    async remove() {},
    async read() {
      state.reads++
      if (state.failure !== null) throw state.failure
      const entries = state.entries.map((entry) => [entryKey(entry), JSON.stringify(entry)] as const)
      return { revision: state.revision, entries, lapsesInMs: null }
    },
    lead: async () => true,
    async resign() {},
    listen(listener) {
      state.emit = listener
      return () => {}
    },
    status: () => ({ ready: true, reason: null }),
  }
  return { state, store }
}

function createRegistry() {
  const { state, store } = createStore()
  const problems: EvenkeelError[] = []
  const registry = new LeasedRegistry({
    store,
    leaseMs,
    leaseRefreshMs,
    now: () => performance.now(),
    onProblem: (problem) => problems.push(problem),
  })
  onTestFinished(() => registry.close())
  const seen: string[] = []
  registry.watch((changes) => seen.push(...changes.map(({ type, entry }) => `${type} ${entry.id}`)))
  return { state, registry, problems, seen }
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

test('after an outage nobody is thought to have left until one lease has passed', async () => {
  const { state, seen } = createRegistry()
  state.entries = [gatewayEntry('a'), gatewayEntry('b')]
  await pass(100)
  // All leases lapsed while the store stood still, and we look before their owners could renew them.
  state.entries = []
  state.revision++
  state.emit('restored')
  await pass(leaseMs / 2)
  state.entries = [gatewayEntry('a')]
  state.revision++
  await pass(leaseMs / 2 - 100)
  expect(seen).toEqual(['joined a', 'joined b'])
  await pass(200)
  expect(seen).toEqual(['joined a', 'joined b', 'left b'])
})

test('an owner renews as soon as the store is back, and then as usual', async () => {
  const { state, registry } = createRegistry()
  await registry.announce(gatewayEntry('me'))
  expect(state.puts).toHaveLength(1)
  await pass(100)
  state.emit('restored')
  await pass(1)
  expect(state.puts).toHaveLength(2)
  await pass(leaseRefreshMs * 3)
  expect(state.puts).toHaveLength(5)
})

test('a store that refuses is reported; one that is away is not', async () => {
  const { state, registry, problems } = createRegistry()
  await registry.announce(gatewayEntry('me'))
  state.failure = new EvenkeelError('NOT_READY', 'away')
  await pass(leaseRefreshMs * 2)
  expect(problems).toEqual([])
  state.failure = new EvenkeelError('INTERNAL', 'WRONGTYPE')
  await pass(leaseRefreshMs)
  expect(problems).toContain(state.failure)
})

test('an entry that the store refused is not kept', async () => {
  const { state, registry } = createRegistry()
  state.failure = new EvenkeelError('INTERNAL', 'WRONGTYPE')
  await expect(registry.announce(gatewayEntry('me'))).rejects.toBe(state.failure)
  state.failure = null
  await pass(leaseRefreshMs * 3)
  expect(state.puts).toEqual([])
})

test('a refused change leaves the entry as it was', async () => {
  const { state, registry } = createRegistry()
  await registry.announce(gatewayEntry('me'))
  await expect(registry.announce(gatewayEntry('me', { state: 'off' as 'active' }))).rejects.toThrow(
    'state must',
  )
  await pass(leaseRefreshMs)
  expect(state.puts).toEqual(['gateway/me', 'gateway/me'])
})

test('after withdraw nothing is renewed; after close nothing is read either', async () => {
  const { state, registry } = createRegistry()
  await registry.announce(gatewayEntry('me'))
  await registry.withdraw()
  await pass(leaseRefreshMs * 3)
  expect(state.puts).toHaveLength(1)
  await registry.close()
  const { reads } = state
  state.emit('changed')
  await pass(leaseRefreshMs * 3)
  expect(state.reads).toBe(reads)
})

test('a burst of changes is few reads', async () => {
  const { state } = createRegistry()
  await pass(100)
  const { reads } = state
  for (let i = 0; i < 100; i++) {
    state.emit('changed')
    await pass(1)
  }
  expect(state.reads - reads).toBeLessThan(5)
})
