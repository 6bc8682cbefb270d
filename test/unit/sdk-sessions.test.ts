import { expect, test } from 'vitest'
import { Link, type LinkSocket } from '../../src/link/link.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'
import { RecordFlag, recordName } from '../../src/protocol/link-records.ts'
import type { NodeSession } from '../../src/sdk/session.ts'
import { SessionTable } from '../../src/sdk/session-table.ts'
import { decodeRecords, encodeRecord, type RecordKind, u32s } from '../support/link-wire.ts'

/** The sessions of one link, with a socket that only keeps what is written. */
class Bench {
  readonly messages: string[] = []
  readonly closes: string[] = []
  readonly sent: Buffer[] = []
  readonly opened: NodeSession[] = []
  nowMs = 0
  /** While it is set, handlers wait for it. */
  busy: Promise<void> | undefined
  readonly table: SessionTable
  readonly link: Link

  constructor() {
    const socket: LinkSocket = {
      bufferedAmount: 0,
      send: (slab, start, end) => void this.sent.push(Buffer.from(slab.subarray(start, end))),
      close() {},
      terminate() {},
    }
    const none = { record() {}, close() {} }
    this.link = new Link(socket, none, { role: 'node', highWaterBytes: 1, now: () => 0 })
    this.table = new SessionTable({
      link: this.link,
      welcome: { protocol: 1, gateway: 'g', limits: defaultLimits, heartbeatMs: 1, suspectMs: 1, downMs: 1 },
      handlers: {
        open: (session) => void this.opened.push(session as NodeSession),
        message: (_session, data) => {
          this.messages.push(String(data))
          return this.busy
        },
        close: (_session, { cause }) => void this.closes.push(cause),
      },
      atomic: false,
      now: () => this.nowMs,
      refusal: () => null,
      sizeChanged() {},
      notJoined() {},
      failed: (_session, error) => {
        throw error
      },
    })
  }

  /** As if the gateway had sent it. Returns what the node answers in this turn. */
  on(kind: RecordKind, term: number, body: Buffer = Buffer.alloc(0), flags = 0): string[] {
    const batch = encodeRecord(kind, { session: 7, term, body, flags })
    const { records } = decodeRecords(batch, 'gateway')
    for (const { type } of records) this.table.record(type, flags, 7, term, batch, 14, batch.length)
    return this.answers()
  }

  /** `KIND(term)`, and what REFUSED says. */
  answers(): string[] {
    this.table.writeCommits()
    this.link.flush()
    const { records } = decodeRecords(Buffer.concat(this.sent.splice(0)), 'node')
    return records.map(({ type, term, body }) => {
      const name = `${recordName(type)}(${term})`
      return name.startsWith('REFUSED') ? `${name} ${JSON.parse(String(body)).code}` : name
    })
  }
}

const meta = JSON.stringify({ id: 's', transport: 'websocket' })
const open = (state = '') => u32s([1_000, 0, 0, meta.length], meta + state)
const prepare = u32s([meta.length], meta)
const message = (seq: number) => u32s([seq], `m${seq}`)

test('records of a lower and of a higher term are dropped and counted', () => {
  const bench = new Bench()
  bench.on('open', 3, open())
  expect(bench.on('message', 3, message(1), RecordFlag.text)).toEqual(['COMMIT(3)'])
  for (const term of [2, 4]) {
    expect(bench.on('message', term, message(2), RecordFlag.text)).toEqual([])
    expect(bench.on('quiesce', term, u32s([9]))).toEqual([])
    expect(bench.on('close', term, Buffer.from([0xe8, 3]))).toEqual([])
    expect(bench.on('release', term)).toEqual([])
  }
  expect(bench.table.staleRecords).toBe(8)
  expect([bench.messages, bench.closes, bench.table.size]).toEqual([['m1'], [], 1])
  expect(bench.on('message', 3, message(2), RecordFlag.text)).toEqual(['COMMIT(3)'])
})

test.each([
  ['open', open()],
  ['prepare', prepare],
] as const)('%s of a term that is not higher is refused as STALE', (kind, body) => {
  const bench = new Bench()
  bench.on('open', 3, open())
  expect([bench.on(kind, 2, body), bench.on(kind, 3, body)]).toEqual([
    ['REFUSED(2) STALE'],
    ['REFUSED(3) STALE'],
  ])
  expect(bench.on('message', 3, message(1), RecordFlag.text)).toEqual(['COMMIT(3)'])
  expect(bench.opened).toHaveLength(1)
})

test('OPEN of a higher term takes the place of the session, which is told', () => {
  const bench = new Bench()
  bench.on('open', 3, open('{"count":1}'), RecordFlag.state)
  bench.on('open', 5, open('{"count":2}'), RecordFlag.state | RecordFlag.recovered)
  expect(bench.closes).toEqual(['migrated'])
  expect(bench.opened.map(({ term, state, recovered, open }) => ({ term, state, recovered, open }))).toEqual([
    { term: 3, state: { count: 1 }, recovered: false, open: false },
    { term: 5, state: { count: 2 }, recovered: true, open: true },
  ])
  expect(bench.on('message', 3, message(1), RecordFlag.text)).toEqual([])
  expect(bench.on('message', 5, message(1), RecordFlag.text)).toEqual(['COMMIT(5)'])
})

test('what reaches a prepared session waits until it is activated', () => {
  const bench = new Bench()
  expect(bench.on('prepare', 2, prepare)).toEqual(['READY(2)'])
  expect(bench.on('message', 2, message(1), RecordFlag.text)).toEqual([])
  expect(bench.opened).toEqual([])
  expect(bench.on('activate', 2, u32s([1_000, 0, 0], '7'), RecordFlag.state)).toEqual(['COMMIT(2)'])
  expect(bench.opened.map(({ recovered, state }) => [recovered, state])).toEqual([[true, 7]])
  expect(bench.messages).toEqual(['m1'])
  bench.on('prepare', 3, prepare)
  bench.on('release', 3)
  expect(bench.table.size).toBe(0)
})

test('after FIN it begins nothing until RESUME of the same attempt; late output leaves as such', () => {
  const bench = new Bench()
  bench.on('open', 1, open())
  expect(bench.on('quiesce', 1, u32s([2]))).toEqual(['FIN(1)'])
  const [session] = bench.opened as [NodeSession]
  expect(bench.on('message', 1, message(1), RecordFlag.text)).toEqual([])
  expect(session.send('late')).toBe(true)
  expect(bench.answers()).toEqual(['OUTPUT(1)'])
  expect(bench.on('resume', 1, u32s([3]))).toEqual([])
  expect(bench.messages).toEqual([])
  expect(bench.on('resume', 1, u32s([2]))).toEqual(['COMMIT(1)'])
  expect(bench.messages).toEqual(['m1'])
  expect(bench.on('quiesce', 1, u32s([4]))).toEqual(['FIN(1)'])
  bench.on('release', 1)
  expect(session.send('late')).toBe(true)
  bench.nowMs += defaultLimits.lateOutputMs + 1
  expect(session.send('too late')).toBe(false)
  expect(bench.answers()).toEqual(['OUTPUT(1)'])
})

test('nothing is begun and nothing committed before the handler in flight has settled', async () => {
  const bench = new Bench()
  bench.on('open', 1, open())
  const handler = Promise.withResolvers<void>()
  bench.busy = handler.promise
  expect(bench.on('message', 1, message(1), RecordFlag.text)).toEqual([])
  expect(bench.on('message', 1, message(2), RecordFlag.text)).toEqual([])
  expect(bench.on('quiesce', 1, u32s([2]))).toEqual([])
  expect(bench.messages).toEqual(['m1'])
  handler.resolve()
  await handler.promise
  // The second message was not begun, so FIN leaves it to the next node.
  expect(bench.answers()).toEqual(['COMMIT(1)', 'FIN(1)'])
  expect(bench.messages).toEqual(['m1'])
})
