import { once } from 'node:events'
import { connect } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type AdminServer, call, startAdminServer } from '../support/admin-server.ts'

let admin: AdminServer
beforeEach(async () => {
  admin = await startAdminServer()
})
afterEach(() => admin[Symbol.asyncDispose]())

describe('what is wrong gets problem+json', () => {
  const json = { 'content-type': 'application/json' }
  test.each([
    ['unknown route', 'GET', '/api/v1/nope', {}, 404, 'no such route'],
    ['no route at the root of the API', 'GET', '/api/v1', {}, 404, 'no such route'],
    ['empty id', 'GET', '/api/v1/nodes/', {}, 404, 'no such route'],
    ['unknown path', 'GET', '/nope', {}, 404, 'nothing at this path'],
    ['another spelling of a path', 'GET', '/%61pi/v1/nodes', {}, 404, 'nothing at this path'],
    ['unknown node', 'GET', '/api/v1/nodes/zz', {}, 404, 'no node "zz"'],
    ['unknown operation', 'GET', '/api/v1/operations/zz', {}, 404, 'no operation "zz"'],
    ['broken percent-encoding', 'GET', '/api/v1/nodes/%zz', {}, 400, 'percent-encoded'],
    ['absolute target', 'GET', 'http://evil.example/api/v1/nodes', {}, 400, 'must be a path'],
    [
      'unknown query parameter',
      'GET',
      '/api/v1/sessions?nodes=a',
      {},
      400,
      'unknown key "nodes"; allowed: node, cursor, limit',
    ],
    ['query where there is none', 'GET', '/api/v1/nodes?x=1', {}, 400, 'takes no parameters'],
    ['parameter given twice', 'GET', '/api/v1/sessions?node=a&node=b', {}, 400, 'once'],
    [
      'limit that is no number',
      'GET',
      '/api/v1/sessions?limit=many',
      {},
      400,
      'limit: expected an integer from 1 to 1000, got "many"',
    ],
    [
      'limit out of range',
      'GET',
      '/api/v1/sessions?limit=1001',
      {},
      400,
      'limit: expected an integer from 1 to 1000, got 1001',
    ],
    ['broken JSON', 'PATCH', '/api/v1/nodes/a', { headers: json, body: '{"weight":' }, 400, 'not JSON'],
    [
      'bytes that are no UTF-8',
      'PATCH',
      '/api/v1/nodes/a',
      { headers: json, body: Buffer.from([0xff]) },
      400,
      'not JSON',
    ],
    ['no content type', 'PATCH', '/api/v1/nodes/a', { body: '{"weight":2}' }, 415, 'application/json'],
    [
      'wrong content type',
      'PATCH',
      '/api/v1/nodes/a',
      { headers: { 'content-type': 'text/plain' }, body: '{"weight":2}' },
      415,
      'application/json',
    ],
    [
      'compressed body',
      'PATCH',
      '/api/v1/nodes/a',
      { headers: { ...json, 'content-encoding': 'gzip' }, body: 'x' },
      415,
      'Content-Encoding',
    ],
    [
      'body too large',
      'PATCH',
      '/api/v1/nodes/a',
      { headers: json, body: `{"weight":${'1'.repeat(70_000)}}` },
      413,
      '65536 bytes',
    ],
    [
      'missing field',
      'PATCH',
      '/api/v1/nodes/a',
      {},
      400,
      'weight: expected a number above 0 and at most 1000000; it is missing',
    ],
    [
      'wrong type',
      'PATCH',
      '/api/v1/nodes/a',
      { headers: json, body: '{"weight":"2"}' },
      400,
      'weight: expected a number above 0 and at most 1000000, got "2"',
    ],
    [
      'value out of range',
      'PATCH',
      '/api/v1/nodes/a',
      { headers: json, body: '{"weight":0}' },
      400,
      'weight: expected a number above 0 and at most 1000000, got 0',
    ],
    [
      'infinite number',
      'PATCH',
      '/api/v1/nodes/a',
      { headers: json, body: '{"weight":1e999}' },
      400,
      'weight: expected',
    ],
    [
      'unknown key',
      'PATCH',
      '/api/v1/nodes/a',
      { headers: json, body: '{"weight":2,"wieght":3}' },
      400,
      'unknown key "wieght"; allowed: weight',
    ],
    [
      'prototype key',
      'PATCH',
      '/api/v1/nodes/a',
      { headers: json, body: '{"weight":2,"__proto__":{}}' },
      400,
      'unknown key "__proto__"',
    ],
    [
      'list for an object',
      'POST',
      '/api/v1/rebalance',
      { headers: json, body: '[]' },
      400,
      'expected an object with the keys pool, dryRun, got a list of 0',
    ],
    [
      'null for an object',
      'POST',
      '/api/v1/rebalance',
      { headers: json, body: 'null' },
      400,
      'expected an object',
    ],
    [
      'wrong boolean',
      'POST',
      '/api/v1/rebalance',
      { headers: json, body: '{"dryRun":"yes"}' },
      400,
      'dryRun: expected true or false, got "yes"',
    ],
    [
      'fractional rate',
      'POST',
      '/api/v1/nodes/a/drain',
      { headers: json, body: '{"ratePerSecond":0.5}' },
      400,
      'ratePerSecond: expected an integer from 0 to 1000000, got 0.5',
    ],
    [
      'body where there is none',
      'POST',
      '/api/v1/nodes/a/activate',
      { headers: json, body: '{"x":1}' },
      400,
      'unknown key "x"; none is allowed',
    ],
    [
      'migration without target',
      'POST',
      '/api/v1/sessions/s1/migrate',
      { headers: json, body: '{}' },
      400,
      'to: expected a text of 1 to 255 characters; it is missing',
    ],
  ] as const)('%s', async (_name, method, path, options, status, detail) => {
    const { port, operator } = admin
    const answer = await call(port, method, path, options)
    expect(answer.json).toMatchObject({
      status,
      detail: expect.stringContaining(detail),
      type: 'about:blank',
    })
    expect(answer.status).toBe(status)
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/)
    expect(operator.calls).toEqual([])
  })

  test.each([
    ['DELETE', '/api/v1/nodes/a', 'GET, HEAD, PATCH'],
    ['GET', '/api/v1/rebalance', 'POST'],
    ['OPTIONS', '/api/v1/sessions/s1', 'GET, HEAD, DELETE'],
    ['POST', '/metrics', 'GET, HEAD'],
    ['POST', '/healthz', 'GET, HEAD'],
  ])('%s %s is not allowed and names what is', async (method, path, allow) => {
    const { port } = admin
    const answer = await call(port, method, path)
    expect([answer.status, answer.headers.allow]).toEqual([405, allow])
    expect(answer.json.code).toBe('METHOD_NOT_ALLOWED')
  })

  test('a body that grows past the limit without a length gets 413, and the connection stays usable', async () => {
    const { port } = admin
    const socket = connect(port, '127.0.0.1').setEncoding('utf8')
    const head = 'POST /api/v1/rebalance HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'
    const size = 500_000
    socket.write(
      `${head}Transfer-Encoding: chunked\r\n\r\n${size.toString(16)}\r\n${' '.repeat(size)}\r\n0\r\n\r\n`,
    )
    socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    let text = ''
    for await (const chunk of socket) text += chunk
    expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 413', 'HTTP/1.1 200'])
  })

  test('a conflict of the operator keeps its status; an unexpected error shows nothing of itself', async () => {
    const { port, operator } = admin
    operator.nodeList[0]!.state = 'down'
    expect((await call(port, 'POST', '/api/v1/nodes/a/drain')).json).toMatchObject({
      status: 409,
      detail: 'Node "a" is down.',
    })
    operator.nodes = () => {
      throw new Error('password=hunter2')
    }
    const answer = await call(port, 'GET', '/api/v1/nodes')
    expect(answer.status).toBe(500)
    expect(answer.text).not.toContain('hunter2')
  })

  test('too many headers and a second Host are refused, before anybody looks at their values', async () => {
    const { port } = admin
    const many = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`x-${index}`, '1']))
    expect((await call(port, 'GET', '/healthz', { headers: many })).status).toBe(431)
    const socket = connect(port, '127.0.0.1').setEncoding('utf8')
    socket.write(
      'GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n',
    )
    let text = ''
    for await (const chunk of socket) text += chunk
    expect(text).toMatch(/^HTTP\/1\.1 400 /)
  })

  test('a caller that leaves in the middle of its body harms nobody', async () => {
    const { port } = admin
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.write(
      'POST /api/v1/rebalance HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{',
    )
    await nextTurn()
    socket.resetAndDestroy()
    expect((await call(port, 'GET', '/healthz')).status).toBe(200)
  })
})
