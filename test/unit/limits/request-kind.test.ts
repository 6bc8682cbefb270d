import { expect, test } from 'vitest'
import { isOpening, type KindOfRequest, kindOfRequest } from '../../../src/core/limits/request-kind.ts'

const plain: KindOfRequest = {
  method: 'GET',
  path: '/',
  query: '',
  routed: null,
  upgrade: false,
  wantsEvents: false,
  lastEventId: '',
  subprotocols: '',
}

test.each<[string, Partial<KindOfRequest>, string]>([
  ['GET', { path: '/healthz' }, 'health'],
  ['GET', { path: '/readyz' }, 'health'],
  ['GET', { path: '/healthz', routed: 'http' }, 'request'],
  ['GET', { path: '/ws', upgrade: true }, 'session'],
  ['GET', { path: '/ws', upgrade: true, subprotocols: 'chat' }, 'session'],
  ['GET', { path: '/ws', upgrade: true, subprotocols: 'chat, evenkeel.v1' }, 'hello'],
  ['GET', { path: '/ws', upgrade: true, subprotocols: 'notevenkeel.v1' }, 'session'],
  ['GET', { path: '/sse' }, 'session'],
  ['GET', { path: '/sse', lastEventId: 'x' }, 'resume'],
  ['POST', { path: '/sse/v1' }, 'hello'],
  ['POST', { path: '/sse/v1/abc' }, 'message'],
  ['POST', { path: '/sse/abc' }, 'message'],
  ['DELETE', { path: '/sse/abc' }, 'message'],
  ['OPTIONS', { path: '/sse/abc' }, 'other'],
  ['GET', { path: '/socket.io/', query: 'EIO=4&transport=polling' }, 'session'],
  ['GET', { path: '/socket.io/', query: 'EIO=4&sid=1' }, 'message'],
  ['POST', { path: '/engine.io/', query: 'sid=1' }, 'message'],
  ['GET', { path: '/socket.io/', query: 'transport=websocket', upgrade: true }, 'session'],
  ['GET', { path: '/socket.io/', query: 'x&sid=1', upgrade: true }, 'message'],
  ['POST', { path: '/runs' }, 'run'],
  ['GET', { path: '/runs/r/events' }, 'resume'],
  ['POST', { path: '/runs/r/cancel' }, 'message'],
  ['POST', { path: '/v1/messages', routed: 'llm' }, 'run'],
  ['GET', { path: '/v1/chat/7/stream', routed: 'llm' }, 'resume'],
  ['GET', { path: '/app', routed: 'http' }, 'request'],
  ['GET', { path: '/app', routed: 'http', upgrade: true }, 'session'],
  ['GET', { path: '/app', routed: 'http', wantsEvents: true }, 'session'],
  ['GET', { path: '/app', routed: 'http', wantsEvents: true, lastEventId: '7' }, 'resume'],
  ['GET', { path: '/nothing' }, 'other'],
])('%s %o: %s', (method, request, kind) => {
  expect(kindOfRequest({ ...plain, method, ...request })).toBe(kind)
})

test('what opens a connection that stays', () => {
  expect((['session', 'hello', 'resume', 'run'] as const).every(isOpening)).toBe(true)
  expect((['health', 'message', 'request', 'other'] as const).some(isOpening)).toBe(false)
})
