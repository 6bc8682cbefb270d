import { expect, test } from 'vitest'
import { type Entry, entryKey } from '../../../src/cluster/entry.ts'
import type { StoreView } from '../../../src/cluster/registry.ts'
import { RegistryView } from '../../../src/cluster/registry-view.ts'
import { gatewayEntry } from '../../support/clusters.ts'

const leaseMs = 6_000
const a = gatewayEntry('a')
const b = gatewayEntry('b')

function createView(): RegistryView {
  return new RegistryView(leaseMs, () => {})
}

function stored(revision: number, ...entries: Entry[]): StoreView {
  return {
    revision,
    entries: entries.map((entry) => [entryKey(entry), JSON.stringify(entry)]),
    lapsesInMs: null,
  }
}

function update(view: RegistryView, state: StoreView, now: number): string[] {
  return view.update(state, now).map(({ type, entry }) => `${type} ${entry.id}/${entry.instance}`)
}

test('an id that another instance took has left and joined', () => {
  const view = createView()
  update(view, stored(1, a), 0)
  const heir = gatewayEntry('a', { instance: 'instance-2' })
  expect(update(view, stored(2, heir), 1)).toEqual(['left a/instance-of-a', 'joined a/instance-2'])
})

test('the order of fields is no change', () => {
  const view = createView()
  update(view, stored(1, a), 0)
  const reversed = Object.fromEntries(Object.entries(a).reverse()) as unknown as Entry
  expect(update(view, stored(2, reversed), 1)).toEqual([])
})

test('what has not changed need not be sent again', () => {
  const view = createView()
  expect(view.revision).toBe(0)
  update(view, stored(7, a), 0)
  expect(view.revision).toBe(7)
  expect(update(view, { revision: 7, entries: null, lapsesInMs: null }, 1)).toEqual([])
  expect(view.entries()).toEqual([a])
})

test('after an outage absence is believed one lease later, presence at once', () => {
  const view = createView()
  update(view, stored(5, a, b), 0)
  view.distrust(1_000)
  expect(update(view, stored(6, b), 1_001)).toEqual([])
  expect(view.doubtsEndInMs(1_001)).toBe(leaseMs - 1)
  // All entries are asked for again, though nothing may have changed.
  expect(view.revision).toBe(0)
  const c = gatewayEntry('c')
  expect(update(view, stored(7, b, c), 1_002)).toEqual(['joined c/instance-of-c'])
  expect(update(view, stored(7, b, c), 1_000 + leaseMs)).toEqual(['left a/instance-of-a'])
  expect(view.doubtsEndInMs(1_000 + leaseMs)).toBeNull()
  expect(view.revision).toBe(7)
})

test('who comes back within the doubt has never left', () => {
  const view = createView()
  update(view, stored(5, a), 0)
  view.distrust(0)
  expect(update(view, stored(6), 1)).toEqual([])
  expect(update(view, stored(7, a), 2)).toEqual([])
  expect(view.doubtsEndInMs(2)).toBeNull()
})

test('a revision that falls means that the store lost its data', () => {
  const view = createView()
  update(view, stored(5, a), 0)
  expect(update(view, stored(4), 1)).toEqual([])
  expect(update(view, stored(4), 1 + leaseMs)).toEqual(['left a/instance-of-a'])
})

test('without a view there is nothing to doubt', () => {
  const view = createView()
  view.distrust(0)
  update(view, stored(1, a), 1)
  expect(update(view, stored(2), 2)).toEqual(['left a/instance-of-a'])
})
