import { describe, expect, test } from 'vitest'
import { RecordFlag } from '../../src/protocol/link-records.ts'
import type { Json } from '../../src/sdk/types.ts'
import { u32s } from '../support/link-wire.ts'
import { SdkBench } from '../support/sdk-bench.ts'

/** PROTOCOL.md §1.10: what a gateway gets that takes a session, and how the session goes on there. */

const [t1, t2, t3] = ['1', '2', '3'].map((digit) => digit.repeat(43)) as [string, string, string]
const at = { number: 70, term: 2 }

function setUp(delivery: 'stream' | 'atomic' = 'stream') {
  const bench = new SdkBench(delivery)
  const [link, other] = [bench.link(), bench.link({ instance: 'g2' })]
  /** Ends the handler in flight. */
  const handler = Promise.withResolvers<void>()
  const settle = async () => {
    handler.resolve()
    await new Promise(setImmediate)
  }
  /** Open under token t1, at the gateway that is lost later. */
  const open = (sent = {}) => {
    link.open(sent)
    link.keep({}, [t1])
  }
  /** The gateway is gone, and another one takes the session. */
  const resume = (out = 0, credit = 1_000) => {
    link.lose()
    other.seek(t1, t2)
    return other.take({ ...at, out, credit })
  }
  return { bench, link, other, handler: handler.promise, settle, open, resume }
}

describe('TAKEN', () => {
  test('says what was committed, and every output behind the last one that the client has follows', () => {
    const { bench, link, open, resume } = setUp()
    bench.onMessage = (session, data, seq) => {
      session.state = { count: seq }
      session.send(`to ${data}`)
    }
    open()
    for (const seq of [1, 2, 3]) link.message({}, seq)
    expect(resume(1)).toEqual([
      'TAKEN 70(2) 3 s [] {"count":3}',
      'OUTPUT 70(2) 2 to m2',
      'OUTPUT 70(2) 3 to m3',
    ])
    expect(bench.session).toMatchObject({ number: 70, term: 2, recovered: false, open: true })
    expect(bench.told).toEqual(['open', 'm1', 'm2', 'm3'])
  })

  test.each<[string, string | undefined, string]>([
    ['none was ever saved', undefined, ''],
    ['none was saved here', '{"old":true}', ' {"old":true}'],
  ])('state, when %s', (_what, state, expected) => {
    const { link, open, resume } = setUp()
    open(state === undefined ? {} : { state, ack: 4, recovered: true })
    link.message({}, 5)
    expect(resume()).toEqual([`TAKEN 70(2) 5 s []${expected}`])
  })

  test('says nothing that a handler has done which has not settled; its outputs of before are there', async () => {
    const { bench, link, other, handler, settle, open, resume } = setUp()
    bench.onMessage = async (session, data) => {
      session.state = `${data} begun`
      session.send(`early ${data}`)
      if (data === 'm2') await handler
      session.send(`late ${data}`)
      session.state = `${data} done`
    }
    open()
    link.message({}, 1)
    await Promise.resolve()
    link.message({}, 2)
    expect(resume()).toEqual([
      'TAKEN 70(2) 1 s [] "m1 done"',
      'OUTPUT 70(2) 1 early m1',
      'OUTPUT 70(2) 2 late m1',
      'OUTPUT 70(2) 3 early m2',
    ])
    await settle()
    expect(other.answers()).toEqual(['OUTPUT 70(2) 4 late m2', 'COMMIT 70(2) 2 "m2 done"'])
  })

  test('a commit that waits behind outputs without credit is not said before they are written', () => {
    const { bench, link, other, open, resume } = setUp()
    const states: Json[] = ['one', 'two', 'three']
    bench.onMessage = (session, _data, seq) => {
      session.state = states[seq - 1]!
      session.send('12345')
    }
    open({ credit: 8 })
    for (const seq of [1, 2, 3]) link.message({}, seq)
    expect(resume(0, 8)).toEqual(['TAKEN 70(2) 2 s [] "two"', 'OUTPUT 70(2) 1 12345', 'OUTPUT 70(2) 2 12345'])
    expect(other.acked(at, 1)).toEqual(['OUTPUT 70(2) 3 12345', 'COMMIT 70(2) 3 "three"'])
  })

  test('what has waited follows at once as far as the new window goes', () => {
    const { bench, link, open, resume } = setUp()
    bench.onMessage = (session) => void session.send('12345')
    open({ credit: 5 })
    for (const seq of [1, 2, 3]) link.message({}, seq)
    expect(resume(1, 10)).toEqual([
      'TAKEN 70(2) 1 s []',
      'OUTPUT 70(2) 2 12345',
      'COMMIT 70(2) 2',
      'OUTPUT 70(2) 3 12345',
      'COMMIT 70(2) 3',
    ])
  })

  test('the window of the new gateway counts what the client has not acknowledged', async () => {
    const { bench, other, open, resume } = setUp()
    open({ credit: 100 })
    for (let i = 0; i < 4; i++) bench.session.send('12345')
    expect(resume(1, 16)).toHaveLength(4)
    expect([bench.session.send('a'), bench.session.send('b')]).toEqual([false, false])
    expect(other.answers()).toEqual(['OUTPUT 70(2) 5 a'])
    let drained = false
    void bench.session.drained().then(() => (drained = true))
    expect(other.acked(at, 3)).toEqual(['OUTPUT 70(2) 6 b'])
    await Promise.resolve()
    expect(drained).toBe(true)
  })

  test('who waits for credit is woken when the client has got further meanwhile', async () => {
    const { bench, open, resume } = setUp()
    open({ credit: 5 })
    bench.session.send('12345')
    let drained = false
    void bench.session.drained().then(() => (drained = true))
    resume(1)
    await Promise.resolve()
    expect(drained).toBe(true)
  })

  test('binary and text come as they were', () => {
    const { bench, open, resume } = setUp()
    open()
    bench.session.send(Uint8Array.of(0, 255))
    bench.session.send('äö')
    expect(resume()).toEqual(['TAKEN 70(2) 0 s []', 'OUTPUT 70(2) 1 00ff', 'OUTPUT 70(2) 2 äö'])
  })
})

describe('atomic', () => {
  test('outputs that were written are committed: they come again without HELD, with the state of their commit', async () => {
    const { bench, link, other, handler, settle, open, resume } = setUp('atomic')
    bench.onMessage = async (session, data, seq) => {
      session.send(`a of ${data}`)
      session.state = seq
      if (seq === 2) await handler
      session.send(`b of ${data}`)
    }
    open()
    link.message({}, 1)
    await Promise.resolve()
    link.message({}, 2)
    link.message({}, 3)
    expect(resume()).toEqual(['TAKEN 70(2) 1 s [] 1', 'OUTPUT 70(2) 1 a of m1', 'OUTPUT 70(2) 2 b of m1'])
    await settle()
    expect(other.answers()).toEqual([
      'OUTPUT 70(2) held 3 a of m2',
      'OUTPUT 70(2) held 4 b of m2',
      'OUTPUT 70(2) held 5 a of m3',
      'OUTPUT 70(2) held 6 b of m3',
      'COMMIT 70(2) 3 3',
    ])
  })

  test('one that settles without a link takes effect whole', async () => {
    const { bench, link, other, handler, settle, open } = setUp('atomic')
    bench.onMessage = async (session, _data, seq) => {
      session.send('12345')
      await handler
      session.send('67890')
      session.state = seq
    }
    open({ credit: 8 })
    for (const seq of [1, 2]) link.message({}, seq)
    link.lose()
    await settle()
    other.seek(t1, t2)
    expect(other.take({ ...at, credit: 12 })).toEqual([
      'TAKEN 70(2) 1 s [] 1',
      'OUTPUT 70(2) 1 12345',
      'OUTPUT 70(2) 2 67890',
      'OUTPUT 70(2) held 3 12345',
      'OUTPUT 70(2) held 4 67890',
      'COMMIT 70(2) 2 2',
    ])
  })

  test('one that waits for credit as a whole is no part of what is taken', () => {
    const { bench, link, open, resume } = setUp('atomic')
    bench.onMessage = (session, data, seq) => {
      for (const part of ['a', 'b']) session.send(`${part} of ${data}`)
      session.state = seq
    }
    open({ credit: 5 })
    for (const seq of [1, 2]) link.message({}, seq)
    expect(resume(0, 5)).toEqual(['TAKEN 70(2) 1 s [] 1', 'OUTPUT 70(2) 1 a of m1', 'OUTPUT 70(2) 2 b of m1'])
  })
})

describe('messages', () => {
  test('those that it has are dropped: handled, in flight or queued; the others follow', async () => {
    const { bench, link, other, handler, settle, open, resume } = setUp()
    bench.onMessage = (_session, _data, seq) => (seq >= 2 ? handler : undefined)
    open()
    for (const seq of [1, 2, 3]) link.message({}, seq)
    expect(resume()[0]).toBe('TAKEN 70(2) 1 s []')
    for (const seq of [2, 3, 4]) expect(other.message(at, seq, RecordFlag.redelivered)).toEqual([])
    await settle()
    // It may commit what this gateway has not sent.
    expect(other.answers()).toEqual(['COMMIT 70(2) 4'])
    expect(bench.messages).toEqual(['m1', 'm2', 'm3', 'm4'])
  })

  test('what was handled without a link is committed with TAKEN', async () => {
    const { bench, link, other, handler, settle, open } = setUp()
    bench.busy.message = handler
    open()
    for (const seq of [1, 2]) link.message({}, seq)
    link.lose()
    await settle()
    other.seek(t1, t2)
    expect(other.take(at)).toEqual(['TAKEN 70(2) 2 s []'])
    expect(other.message(at, 2)).toEqual([])
    expect(other.message(at, 3)).toEqual([])
    await new Promise(setImmediate)
    expect(other.answers()).toEqual(['COMMIT 70(2) 3'])
  })

  test('records of the link and the term before are stale', () => {
    const { bench, link, other, open } = setUp()
    open()
    other.seek(t1, t2)
    other.take(at)
    link.message({}, 1)
    other.message({ number: 70, term: 1 }, 1)
    expect([bench.messages, link.table.staleRecords, other.table.staleRecords]).toEqual([[], 1, 1])
    expect(other.message(at, 1)).toEqual(['COMMIT 70(2) 1'])
  })
})

describe('REFUSED', () => {
  test.each([1, 2])('STALE in term %i, which is not higher', (term) => {
    const { link, other } = setUp()
    link.open({ term: 2 })
    link.keep({ term: 2 }, [t1])
    other.seek(t1, t2)
    expect(other.take({ number: 70, term })).toEqual([`REFUSED 70(${term}) STALE`])
    expect(other.take({ number: 70, term: 3 })).toEqual(['TAKEN 70(3) 0 s []'])
  })

  test('STALE for one that is not here, or ended since', () => {
    const { bench, other, open } = setUp()
    expect(other.take(at)).toEqual(['REFUSED 70(2) STALE'])
    open()
    other.seek(t1, t2)
    bench.session.close()
    expect(other.take(at)).toEqual(['REFUSED 70(2) STALE'])
  })

  test('STALE for the slower one of two gateways that have found it in the same term', () => {
    const { bench, other, open } = setUp()
    open()
    const third = bench.link({ instance: 'g3' })
    other.seek(t1, t2)
    third.seek(t1, t3)
    expect(third.take({ number: 700, term: 2 })).toEqual(['TAKEN 700(2) 0 s []'])
    expect(other.take(at)).toEqual(['REFUSED 70(2) STALE'])
    // It looks again, and gets it while the client has not shown the next token to the faster one.
    expect(other.seek(t1, t2)).toEqual(['FOUND {"seek":1,"term":2,"live":true}'])
    expect(third.answers()).toEqual(['LOST 700(2)'])
    expect(other.take({ number: 71, term: 3 })).toEqual(['TAKEN 71(3) 0 s []'])
  })

  test('not when its term is higher than that of the gateway that has it since, which is told', () => {
    const { bench, other, open } = setUp()
    open()
    const third = bench.link({ instance: 'g3' })
    other.seek(t1, t2)
    third.take({ number: 700, term: 2 })
    third.on('quiesce', { number: 700, term: 2 }, u32s([3]))
    expect(other.take({ number: 70, term: 3, out: 1 })).toEqual(['REFUSED 70(3) GAP'])
    expect(third.answers()).toEqual([])
    expect(other.take({ number: 70, term: 3 })).toEqual(['TAKEN 70(3) 0 s []'])
    expect([third.answers(), third.table.size, bench.resumable.orphanCount]).toEqual([['LOST 700(2)'], 0, 0])
    expect(bench.told).toEqual(['open', 'close migrated', 'open recovered'])
  })

  test('not when its own handler ends it as it is taken behind FIN: then it is closed', () => {
    const { bench, link, other, open } = setUp()
    open()
    link.on('quiesce', {}, u32s([2]))
    bench.onOpen = (session) => session.close()
    expect(other.take(at)).toEqual(['TAKEN 70(2) 0 s []', 'CLOSE 70(2) 1000'])
    expect(bench.resumable.orphanCount).toBe(0)
  })

  test('STALE when it was prepared in that term since; what was prepared in a lower one is forgotten', () => {
    const { bench, other, open } = setUp()
    open()
    other.seek(t1, t2)
    const third = bench.link({ instance: 'g3' })
    third.prepare({ number: 700, term: 4 })
    expect(other.take({ number: 70, term: 4 })).toEqual(['REFUSED 70(4) STALE'])
    expect(other.take({ number: 70, term: 5 })).toEqual(['TAKEN 70(5) 0 s []'])
    expect(third.answers()).toEqual(['LOST 700(4)'])
    expect(third.activate({ number: 700, term: 4 })).toEqual([])
    expect(bench.told).toEqual(['open'])
  })

  test.each([
    ['the client has acknowledged more before', 1],
    ['more than was ever made', 4],
  ])('GAP: %s; it stays as it was found', (_what, out) => {
    const { bench, link, other, open } = setUp()
    open()
    for (const text of ['a', 'b', 'c']) bench.session.send(text)
    link.acked({}, 2)
    other.seek(t1, t2)
    expect(other.take({ ...at, out })).toEqual(['REFUSED 70(2) GAP'])
    expect([bench.session.term, bench.taken]).toEqual([1, []])
    expect(other.take({ ...at, out: 2 })).toEqual(['TAKEN 70(2) 0 s []', 'OUTPUT 70(2) 3 c'])
    expect(bench.taken).toEqual([other])
  })
})

describe('at the new gateway', () => {
  test('it is kept, moved, closed and lost like any other', () => {
    const { bench, other, open, resume } = setUp()
    open()
    bench.session.send('x')
    resume(1)
    expect([bench.resumable.orphanCount, bench.orphanChanges, other.table.size]).toEqual([0, 1, 1])
    expect(other.keep({ ...at, out: 1 }, [t3], null, 3)).toEqual(['KEPT 70(2) 3'])
    expect(other.on('quiesce', at, u32s([3]))).toEqual(['FIN 70(2) 3'])
    expect(other.on('resume', at, u32s([3]))).toEqual([])
    expect(bench.told).toEqual(['open', 'close migrated', 'open recovered'])
    const third = bench.link({ instance: 'g3' })
    expect(third.seek(t3, t1)).toEqual(['FOUND {"seek":1,"term":2,"live":true}'])
    expect(other.answers()).toEqual(['LOST 70(2)'])
    expect(third.take({ number: 700, term: 3, out: 1 })).toEqual(['TAKEN 700(3) 0 s []'])
    expect(third.on('close', { number: 700, term: 3 }, Buffer.from([0xe8, 3]))).toEqual(['CLOSED 700(3)'])
    expect(bench.closes).toEqual(['migrated', 'client 1000'])
  })

  test('a close hook that is in flight since an earlier hand-over ends the next one', async () => {
    const { bench, link, other, handler, settle, open, resume } = setUp()
    open()
    bench.busy.close = handler
    link.on('quiesce', {}, u32s([2]))
    expect(resume()).toEqual(['TAKEN 70(2) 0 s []'])
    expect(other.on('quiesce', at, u32s([3]))).toEqual([])
    await settle()
    expect(other.answers()).toEqual(['FIN 70(2) 3'])
    expect(bench.told).toEqual(['open', 'close migrated'])
  })

  test('the time that it has without a link begins anew with each loss', () => {
    const { bench, other, open, resume } = setUp()
    open()
    bench.nowMs = 50_000
    resume()
    bench.nowMs = 100_000
    bench.resumable.expire()
    other.lose()
    bench.nowMs = 159_999
    bench.resumable.expire()
    expect(bench.closes).toEqual([])
    bench.nowMs = 160_000
    bench.resumable.expire()
    expect(bench.closes).toEqual(['client 1006'])
  })

  test('its former gateway process coming back does not concern it', () => {
    const { bench, open, resume } = setUp()
    open()
    resume()
    bench.resumable.linkUp('g1')
    expect([bench.closes, bench.session.open]).toEqual([[], true])
  })
})
