import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { describe, expect, onTestFinished, test } from 'vitest'
import { RecordFlag, RecordType } from '../../src/protocol/link-records.ts'
import { echo, startTestGateway, startTestNode } from '../support/in-process.ts'
import { encodeRecord, json, u32s, type WireRecord } from '../support/link-wire.ts'
import { RedisServer } from '../support/redis.ts'
import { output, type Script, ScriptedNode } from '../support/scripted-node.ts'
import { postTo, SseStream } from '../support/sse-stream.ts'

/** The gateway's side of PROTOCOL.md §1.10 and §3, record by record. */

const bodyOf = (record: WireRecord) => JSON.parse(record.body.toString())
const lastEventId = `far-away.${'t'.repeat(43)}.7`

const unknown: Script = {
  seek: (record, node) => {
    const body = json({ seek: bodyOf(record).seek, term: 0, live: false, reason: 'unknown' })
    node.send(encodeRecord('found', { body }))
  },
}
const keeps: Script = {
  ...unknown,
  keep: ({ session, term, body }, node) =>
    node.send(encodeRecord('kept', { session, term, body: u32s([JSON.parse(String(body)).version]) })),
}

/** Answers SEEK as a node that has the session, and TAKE with it; it handles nothing. */
function holds(taken: { received: number; keys: [string, number][] }, out = 0): Script {
  return {
    ...keeps,
    seek: (record, node) =>
      node.send(encodeRecord('found', { body: json({ seek: bodyOf(record).seek, term: 3, live: true }) })),
    take: ({ session, term, body }, node) => {
      if (body.readUInt32LE(4) < out) {
        const refusal = json({ code: 'GAP', message: 'not all outputs are here', out })
        node.send(encodeRecord('refused', { session, term, body: refusal }))
        return
      }
      const meta = { id: body.toString('utf8', 8), address: '192.0.2.1', transport: 'sse' }
      const info = json({ meta, channels: [], ...taken })
      node.send(
        encodeRecord('taken', { session, term, body: Buffer.concat([u32s([5, info.length]), info]) }),
        output({ number: session, term }, body.readUInt32LE(4) + 1, 'behind'),
      )
    },
    message() {},
  }
}

const quietly = { rebalance: { enabled: false }, limits: { seekUnlinkedMs: 100 } }

async function takenOver(script: Script) {
  const gateway = await startTestGateway(quietly)
  const a = await ScriptedNode.link(gateway, { id: 'a', script })
  const stream = await SseStream.open(gateway.httpUrl, { lastEventId })
  const known = await stream.session()
  const post = async (body: string, key?: string) => {
    const headers: Record<string, string> = key === undefined ? {} : { 'idempotency-key': key }
    return (await postTo(gateway.httpUrl, known, body, headers)).status
  }
  return { gateway, a, stream, known, post }
}

const messageOf = ({ flags, body }: WireRecord) => [
  body.readUInt32LE(0),
  body.toString('utf8', 4),
  (flags & RecordFlag.redelivered) !== 0,
]

describe('messages that only the node has', () => {
  test('new ones are numbered behind them; those that come again are put in their places', async () => {
    const { gateway, a, known, post } = await takenOver(holds({ received: 7, keys: [['k6', 6]] }))
    expect(known).toMatchObject({ session: 'far-away', recovered: true })
    const eighth = post('eight', 'k8')
    expect(messageOf(await a.next('message'))).toEqual([8, 'eight', false])
    expect(a.kinds().slice(-2)).toEqual(['KEY', 'MESSAGE'])
    const sixth = post('six', 'k6')
    await expect.poll(() => gateway.operator.session('far-away').uncommitted).toBe(3)
    await a.settled()
    expect(a.kinds().filter((kind) => kind === 'MESSAGE')).toHaveLength(1)

    // The seventh is lost with the node. Nobody was told that it is committed, and nobody sends it again.
    const b = await ScriptedNode.link(gateway, { id: 'b', script: { ...keeps, message() {} } })
    a.crash()
    const open = await b.next('open')
    expect([open.body.readUInt32LE(4), open.flags & RecordFlag.recovered]).toEqual([5, RecordFlag.recovered])
    expect(messageOf(await b.next('message'))).toEqual([6, 'six', true])
    expect(messageOf(await b.next('message'))).toEqual([8, 'eight', true])
    const keys = b.received
      .filter(({ type }) => type === RecordType.key)
      .map(({ body }) => body.toString('utf8', 4))
    expect(keys.toSorted()).toEqual(['k6', 'k8'])
    const { session, term } = open
    b.send(encodeRecord('commit', { session, term, body: u32s([8]) }))
    expect(await Promise.all([sixth, eighth])).toEqual([202, 202])
  })

  test('one that is lost with its node is a new message when it comes again', async () => {
    const { gateway, a, post } = await takenOver(holds({ received: 7, keys: [['k7', 7]] }))
    const b = await ScriptedNode.link(gateway, { id: 'b', script: keeps })
    a.crash()
    await b.next('open')
    expect(await post('seven', 'k7')).toBe(202)
    expect(messageOf(await b.next('message'))).toEqual([8, 'seven', false])
  })

  test('a key beyond what the node has got means nothing', async () => {
    const { a, post } = await takenOver(holds({ received: 7, keys: [['k9', 9]] }))
    void post('new', 'k9')
    expect(messageOf(await a.next('message'))).toEqual([8, 'new', false])
  })

  test('a node that says it has got far too many loses its link', async () => {
    const gateway = await startTestGateway(quietly)
    const a = await ScriptedNode.link(gateway, { script: holds({ received: 2 ** 31, keys: [] }) })
    await SseStream.open(gateway.httpUrl, { lastEventId })
    expect((await a.ended).code).toBe(4400)
  })
})

test('a node that does not have all outputs is asked for those that it has', async () => {
  const { a, stream } = await takenOver(holds({ received: 5, keys: [] }, 9))
  const takes = [await a.next('take'), await a.next('take')]
  expect(takes.map(({ body }) => body.readUInt32LE(4))).toEqual([7, 9])
  expect(JSON.parse((await stream.next('gap')).data)).toEqual({ from: 8, to: 9 })
  expect(await stream.next()).toMatchObject({ data: 'behind' })
  expect(stream.lastEventId.split('.')[2]).toBe('10')
})

/** For paths that `fetch` would tidy up. */
async function rawStatus(
  port: number,
  method: string,
  path: string,
  headers: Record<string, string>,
): Promise<number> {
  const request = httpRequest({ host: '127.0.0.1', port, method, path, headers }).end()
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  response.resume()
  return response.statusCode!
}

test('requests that come to another gateway of the cluster are brought to the one that has the stream', async () => {
  const redis = await RedisServer.start()
  onTestFinished(() => redis.stop())
  const tokens = { adminToken: 'for-operators', nodeToken: 'for-nodes' }
  const first = await startTestGateway({ ...quietly, gatewayId: 'first', redis: redis.url }, tokens)
  const second = await startTestGateway({ ...quietly, gatewayId: 'second', redis: redis.url }, tokens)
  await startTestNode(first, echo, { token: 'for-nodes' })
  const stream = await SseStream.open(first.httpUrl)
  const known = await stream.session()
  await expect.poll(() => postTo(second.httpUrl, known, 'over there').then(({ status }) => status)).toBe(202)
  while ((await stream.next()).data !== 'over there');
  const bad = { ...known, token: known.token.replace(/^.{3}/, '___') }
  expect((await postTo(second.httpUrl, bad, 'x')).status).toBe(403)
  // They go where sessions are, with the gateway's token: nowhere else.
  const told = new Set<number>()
  const tag = known.token.split('.').at(-1)
  for (const path of ['..', '%2e%2e', '.%2E', 'x/../..', '..\\', 'x\\..\\..', '%2e%2e%5c']) {
    const sessions = `${path}/api/v1/sessions/${known.session}`
    const headers = { authorization: `Bearer x.${tag}` }
    told.add(await rawStatus(second.publicPort, 'DELETE', `/sse/${sessions}`, headers))
    told.add(await rawStatus(second.publicPort, 'POST', `/sse/v1/${tag}./../../${sessions}/migrate`, headers))
  }
  expect([...told]).toEqual([404])
  // Only gateways may bring them.
  const direct = await fetch(`${first.internalUrl}/sse/${known.session}`, {
    method: 'POST',
    headers: { 'x-evenkeel-session-token': known.token },
  })
  expect(direct.status).toBe(401)
  const ended = await fetch(`${second.httpUrl}/sse/${known.session}`, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${known.token}` },
  })
  expect(ended.status).toBe(204)
  await stream.end()
  await first.close()
  const late = await postTo(second.httpUrl, known, 'x')
  expect(late.status).toBe(503)
  expect(late.headers.get('retry-after')).not.toBeNull()
})
