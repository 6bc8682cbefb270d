import { expect, test } from 'vitest'
import { Transports } from '../../client/transports.ts'
import type { WebSocketLike } from '../../client/types.ts'

function start(hasHttp = true) {
  const named = (name: string) => () => name as unknown as WebSocketLike
  const transports = new Transports(named('ws'), hasHttp ? named('http') : null)
  return {
    open: () => String(transports.open()),
    welcomed: () => transports.welcomed(),
    fails: () => transports.ended(false),
    ends: () => transports.ended(true),
  }
}

test('the first WebSocket that fails is followed by the other, and the other by a WebSocket', () => {
  const { open, fails } = start()
  const tried = Array.from({ length: 5 }, () => {
    const one = open()
    fails()
    return one
  })
  expect(tried).toEqual(['ws', 'http', 'ws', 'http', 'ws'])
})

test('where WebSockets never worked, what works is kept', () => {
  const { open, fails, ends, welcomed } = start()
  fails()
  welcomed()
  ends()
  expect(open()).toBe('http')
})

test('where a WebSocket has worked, three failures in a row are needed, and then it is tried first again', () => {
  const { open, fails, ends, welcomed } = start()
  welcomed()
  ends()
  const tried = Array.from({ length: 8 }, () => {
    const one = open()
    fails()
    return one
  })
  expect(tried).toEqual(['ws', 'ws', 'ws', 'http', 'ws', 'ws', 'ws', 'http'])
  for (let i = 0; i < 3; i++) fails()
  expect(open()).toBe('http')
  welcomed()
  ends()
  expect(open()).toBe('ws')
})

test('without a way to fall back to there is none', () => {
  const { open, fails } = start(false)
  fails()
  expect(open()).toBe('ws')
})
