import { describe, expect, test } from 'vitest'
import { parseRunTrace, traceContextOf } from '../../src/protocol/trace-context.ts'

const ids = '0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331'
const traceparent = `00-${ids}-01`

test.each([
  traceparent,
  `00-${ids}-00`,
  `00-${ids}-ff`,
  `01-${ids}-01`,
  `cc-${ids}-01-what-the-future-will-be`,
])('%s is one', (traceparent) => {
  expect(traceContextOf({ traceparent })).toEqual({ traceparent })
})

test.each([
  undefined,
  '',
  7,
  [traceparent],
  `ff-${ids}-01`,
  `00-${ids}-01-`,
  `00-${ids}-01-more`,
  `01-${ids}-01.more`,
  `cc-${ids}-01-${'x'.repeat(128)}`,
  `00-${ids.toUpperCase()}-01`,
  `00-${ids}-1`,
  `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
  `00-0af7651916cd43dd8448eb211c80319c-${'0'.repeat(16)}-01`,
  ` ${traceparent}`,
  `${traceparent}\n`,
  `${traceparent}, ${traceparent}`,
])('%s is none', (traceparent) => {
  expect(traceContextOf({ traceparent })).toBe(null)
})

test('the state is passed on as long as it is no longer than it may be', () => {
  expect(traceContextOf({ traceparent, tracestate: 'a=1,b=2' })).toEqual({
    traceparent,
    tracestate: 'a=1,b=2',
  })
  for (const tracestate of ['', 'x'.repeat(513), 'a=\u00e9', 'a=1\r\nb: c', ['a=1']])
    expect(traceContextOf({ traceparent, tracestate })).toEqual({ traceparent })
  expect(traceContextOf({ tracestate: 'a=1' })).toBe(null)
})

describe('what Redis keeps of a run', () => {
  test('is read as it was written', () => {
    for (const trace of [
      { traceparent, isLink: true },
      { traceparent, tracestate: 'a=1', isLink: false },
    ])
      expect(parseRunTrace(JSON.stringify(trace))).toEqual(trace)
  })

  test.each(['', 'null', '7', '{}', '[]', '{', '{"traceparent":"x"}'])('%s is none', (text) => {
    expect(parseRunTrace(text)).toBe(null)
  })
})
