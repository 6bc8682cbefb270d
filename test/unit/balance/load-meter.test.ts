import { expect, test } from 'vitest'
import { LoadMeter } from '../../../src/core/balance/load-meter.ts'

/** One message a second for a minute; its node takes `handlingMs` for each. */
function rates(handlingMs: number) {
  const meter = new LoadMeter(0)
  for (let second = 0; second < 60; second++) {
    const at = second * 1_000
    meter.count(100)
    meter.handling(at)
    meter.handled(false, at + handlingMs)
    meter.look('time', at + 1_000)
  }
  return { messages: meter.rate('messages'), bytes: meter.rate('bytes'), time: meter.rate('time') }
}

test('sessions are told apart by their messages, bytes and handler time', () => {
  expect(rates(5)).toEqual({ messages: 1, bytes: 100, time: expect.closeTo(5) })
  expect(rates(400)).toEqual({ messages: 1, bytes: 100, time: expect.closeTo(400) })
})

test('time counts while it passes, and once, however many messages a node has', () => {
  const meter = new LoadMeter(0)
  meter.handling(0)
  meter.handling(500)
  expect(meter.look('time', 1_000)).toBeCloseTo(1_000)
  meter.handled(true, 1_500)
  meter.handled(false, 1_750)
  expect(meter.look('time', 2_000)).toBeCloseTo(875)
})
