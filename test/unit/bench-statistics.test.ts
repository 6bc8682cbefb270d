import { expect, test } from 'vitest'
import { isSettled } from '../../bench/measure/statistics.ts'

test.each([
  // above and below the bound
  [0, 5, false],
  [0, 6, true],
  [6, 0, true],
  [1, 6, false],
  [1, 7, false],
  [1, 8, true],
  [8, 1, true],
  [2, 9, false],
  [2, 10, true],
  [5, 15, true],
  [6, 15, false],
])('%i above the bound and %i below: settled %s', (above, below, settled) => {
  const values = [...Array(above).fill(2.1), ...Array(below).fill(1.9)]
  expect(isSettled(values, 2)).toBe(settled)
})
