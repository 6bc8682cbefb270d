import { expect, test } from 'vitest'
import { defaultLimits } from '../../src/protocol/limits.ts'
import { u32s } from '../support/link-wire.ts'
import { type BenchLink, SdkBench } from '../support/sdk-bench.ts'

const plain = { resumable: false }

const quiesce = (link: BenchLink, term: number, attempt: number) =>
  link.on('quiesce', { term }, u32s([attempt]))
const resume = (link: BenchLink, term: number, attempt: number) =>
  link.on('resume', { term }, u32s([attempt]))

function setUp(): { bench: SdkBench; link: BenchLink } {
  const bench = new SdkBench()
  return { bench, link: bench.link() }
}

test('records of a lower and of a higher term are dropped and counted', () => {
  const { bench, link } = setUp()
  link.open({ ...plain, term: 3 })
  expect(link.message({ term: 3 }, 1)).toEqual(['COMMIT 7(3) 1'])
  for (const term of [2, 4]) {
    expect(link.message({ term }, 2)).toEqual([])
    expect(quiesce(link, term, 9)).toEqual([])
    expect(link.on('close', { term }, Buffer.from([0xe8, 3]))).toEqual([])
    expect(link.on('release', { term })).toEqual([])
  }
  expect(link.table.staleRecords).toBe(8)
  expect([bench.messages, bench.closes, link.table.size]).toEqual([['m1'], [], 1])
  expect(link.message({ term: 3 }, 2)).toEqual(['COMMIT 7(3) 2'])
})

test.each(['open', 'prepare'] as const)('%s of a term that is not higher is refused as STALE', (kind) => {
  const { bench, link } = setUp()
  link.open({ ...plain, term: 3 })
  expect([link[kind]({ ...plain, term: 2 }), link[kind]({ ...plain, term: 3 })]).toEqual([
    ['REFUSED 7(2) STALE'],
    ['REFUSED 7(3) STALE'],
  ])
  expect(link.message({ term: 3 }, 1)).toEqual(['COMMIT 7(3) 1'])
  expect(bench.opened).toHaveLength(1)
})

test('OPEN of a higher term takes the place of the session, which is told', () => {
  const { bench, link } = setUp()
  link.open({ ...plain, term: 3, state: '{"count":1}' })
  link.open({ ...plain, term: 5, state: '{"count":2}', recovered: true })
  expect(bench.closes).toEqual(['migrated'])
  expect(bench.opened.map(({ term, state, recovered, open }) => ({ term, state, recovered, open }))).toEqual([
    { term: 3, state: { count: 1 }, recovered: false, open: false },
    { term: 5, state: { count: 2 }, recovered: true, open: true },
  ])
  expect(link.message({ term: 3 }, 1)).toEqual([])
  expect(link.message({ term: 5 }, 1)).toEqual(['COMMIT 7(5) 1'])
})

test('what reaches a prepared session waits until it is activated', () => {
  const { bench, link } = setUp()
  expect(link.prepare({ ...plain, term: 2 })).toEqual(['READY 7(2)'])
  expect(link.message({ term: 2 }, 1)).toEqual([])
  expect(bench.opened).toEqual([])
  expect(link.activate({ term: 2, state: '7' })).toEqual(['COMMIT 7(2) 1'])
  expect(bench.opened.map(({ recovered, state }) => [recovered, state])).toEqual([[true, 7]])
  expect(bench.messages).toEqual(['m1'])
  link.prepare({ ...plain, term: 3 })
  link.on('release', { term: 3 })
  expect(link.table.size).toBe(0)
})

test('after FIN it begins nothing until RESUME of the same attempt; late output leaves as such', () => {
  const { bench, link } = setUp()
  link.open(plain)
  expect(quiesce(link, 1, 2)).toEqual(['FIN 7(1) 2'])
  const [session] = bench.opened
  expect(link.message({}, 1)).toEqual([])
  expect(session!.send('late')).toBe(true)
  expect(link.answers()).toEqual(['OUTPUT 7(1) late 0 late'])
  expect(resume(link, 1, 3)).toEqual([])
  expect(bench.messages).toEqual([])
  expect(resume(link, 1, 2)).toEqual(['COMMIT 7(1) 1'])
  expect(bench.messages).toEqual(['m1'])
  expect(quiesce(link, 1, 4)).toEqual(['FIN 7(1) 4'])
  link.on('release', {})
  expect(session!.send('later')).toBe(true)
  bench.nowMs += defaultLimits.lateOutputMs + 1
  expect(session!.send('too late')).toBe(false)
  expect(link.answers()).toEqual(['OUTPUT 7(1) late 0 later'])
})

test('nothing is begun and nothing committed before the handler in flight has settled', async () => {
  const { bench, link } = setUp()
  link.open(plain)
  const handler = Promise.withResolvers<void>()
  bench.busy.message = handler.promise
  expect(link.message({}, 1)).toEqual([])
  expect(link.message({}, 2)).toEqual([])
  expect(quiesce(link, 1, 2)).toEqual([])
  expect(bench.messages).toEqual(['m1'])
  handler.resolve()
  await handler.promise
  // The second message was not begun, so FIN leaves it to the next node.
  expect(link.answers()).toEqual(['COMMIT 7(1) 1', 'FIN 7(1) 2'])
  expect(bench.messages).toEqual(['m1'])
})

test('a session that is not resumable ends with its link, and nothing is kept of it', () => {
  const { bench, link } = setUp()
  link.open({ ...plain, credit: 10 })
  bench.session.send('0123456789')
  expect(bench.session.send('more')).toBe(false)
  // Credit comes by CREDIT alone.
  expect(link.acked({}, 1)).toEqual(['OUTPUT 7(1) 1 0123456789'])
  expect(link.on('credit', {}, u32s([10]))).toEqual(['OUTPUT 7(1) 2 more'])
  quiesce(link, 1, 2)
  resume(link, 1, 2)
  expect([bench.session.send('12345'), bench.session.send('6')]).toEqual([true, false])
  link.lose()
  expect(bench.closes).toEqual(['migrated', 'link-lost'])
  expect([bench.resumable.orphanCount, bench.session.open]).toEqual([0, false])
  expect(bench.link({ instance: 'g2' }).seek('a'.repeat(43), 'b'.repeat(43))).toEqual([
    'FOUND {"seek":1,"term":0,"reason":"unknown"}',
  ])
})

test('what is sent to a client that has gone for good leaves no node, and nobody waits to send it', async () => {
  const { bench, link } = setUp()
  link.open({ ...plain, term: 3, credit: 4 })
  const sent: boolean[] = []
  bench.onMessage = async (session) => {
    for (let i = 0; i < 10 && session.open; i++) {
      sent.push(session.send('much'))
      await session.drained()
    }
    sent.push(session.send('more'))
  }
  expect(link.message({ term: 3 }, 1)).toEqual(['OUTPUT 7(3) 1 much'])
  expect(link.on('close', { term: 3 }, Buffer.from([0xe8, 3]))).toEqual([])
  await expect.poll(() => bench.closes).toEqual(['client 1000'])
  expect(sent).toEqual([false, false])
  expect(link.answers().filter((record) => record.startsWith('OUTPUT'))).toEqual([])
})
