import { expect, test } from 'vitest'
import { slotOf } from '../../../src/cluster/redis-slot.ts'

// The values are those of CLUSTER KEYSLOT.
test.each([
  ['', 0],
  ['123456789', 12739],
  ['foo', 12182],
  ['foo{hash_tag}', 2515],
  ['hash_tag', 2515],
  ['foo{}{bar}', 8363],
  ['foo{{bar}}zap', 4015],
  ['foo{bar}{zap}', 5061],
  ['bar', 5061],
  ['evenkeel:{registry}:leases', 3850],
  ['grüße', 3194],
  ['open{', 10514],
])('%s', (key, slot) => {
  expect(slotOf(key)).toBe(slot)
})
