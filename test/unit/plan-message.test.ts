import { expect, test } from 'vitest'
import { type PlanMessage, parsePlanMessage } from '../../src/gateway/plan-message.ts'

const loads: PlanMessage = {
  type: 'loads',
  gateway: 'gw-1',
  pool: 'default',
  loads: { a: 1.5, b: 0 },
  moved: true,
}

function parsed(value: unknown): PlanMessage | null {
  return parsePlanMessage(Buffer.from(JSON.stringify(value)))
}

test('loads come as they were sent', () => {
  expect(parsed(loads)).toEqual(loads)
})

test.each([
  { loads: { a: -1 } },
  { loads: { a: '1' } },
  { loads: { a: null } },
  { loads: [1] },
  { loads: undefined },
  { moved: 1 },
  { gateway: '' },
  { pool: 7 },
])('loads with %j are ignored', (wrong) => {
  expect(parsed({ ...loads, ...wrong })).toBeNull()
})
