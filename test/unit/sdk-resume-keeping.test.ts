import { describe, expect, test } from 'vitest'
import { defaultLimits } from '../../src/protocol/limits.ts'
import { RecordFlag } from '../../src/protocol/link-records.ts'
import { u32s } from '../support/link-wire.ts'
import { type BenchLink, SdkBench } from '../support/sdk-bench.ts'

/** PROTOCOL.md §1.10, Keeping and Credit: what a node does with a resumable session while it has its link. */

const [t1, t2, t3] = ['1', '2', '3'].map((digit) => digit.repeat(43)) as [string, string, string]
const found = (term: number) => [`FOUND {"seek":1,"term":${term},"live":true}`]
const notFound = (reason: string) => [`FOUND {"seek":1,"term":0,"reason":"${reason}"}`]

function setUp(delivery: 'stream' | 'atomic' = 'stream') {
  const bench = new SdkBench(delivery)
  return { bench, link: bench.link(), other: bench.link({ instance: 'g2' }) }
}

function outputsOf(answers: string[]): string[] {
  return answers.filter((one) => one.startsWith('OUTPUT')).map((one) => one.replace(/^OUTPUT \S+ /, ''))
}

/** The records of a session whose client comes back by way of another gateway. */
function resumed(other: BenchLink, out: number, term = 9): string[] {
  other.seek(t1, t2)
  return other.take({ number: 70, term, out })
}

describe('KEEP', () => {
  test('is answered with KEPT and its version, behind OPEN, PREPARE and ACTIVATE', () => {
    const { link } = setUp()
    link.open()
    expect(link.keep({}, [t1], [], 1)).toEqual(['KEPT 7(1) 1'])
    expect(link.keep({}, [t2, t1], null, 2)).toEqual(['KEPT 7(1) 2'])
    link.prepare({ number: 8, term: 2 })
    expect(link.keep({ number: 8, term: 2 }, [t1], null, 5)).toEqual(['KEPT 8(2) 5'])
    link.activate({ number: 8, term: 2 })
    expect(link.keep({ number: 8, term: 2 }, [t1], [], 6)).toEqual(['KEPT 8(2) 6'])
  })

  test('of a session or a term that is not here is answered with LOST; no other record is', () => {
    const { link } = setUp()
    link.open({ term: 3 })
    expect(link.keep({ number: 9 }, [t1])).toEqual(['LOST 9(1)'])
    for (const term of [2, 4]) expect(link.keep({ term }, [t1])).toEqual([`LOST 7(${term})`])
    const foreign = { number: 9, term: 1 }
    expect([link.tail(foreign, 1), link.acked(foreign, 1), link.message(foreign, 1)]).toEqual([[], [], []])
    link.on('release', { term: 3 })
    expect(link.keep({ term: 3 }, [t1])).toEqual(['LOST 7(3)'])
  })

  test('of a session that is not resumable is dropped', () => {
    const { link } = setUp()
    link.open({ resumable: false })
    expect([link.keep({}, [t1]), link.tail({}, 1), link.acked({}, 1)]).toEqual([[], [], []])
  })

  test('its tokens replace the ones before', () => {
    const { link, other } = setUp()
    link.open()
    expect(other.seek(t1, t3)).toEqual(notFound('token'))
    link.keep({}, [t1])
    link.keep({}, [t2], null, 2)
    expect(other.seek(t1, t3)).toEqual(notFound('token'))
    expect(other.seek(t2, t3)).toEqual(found(1))
  })

  test.each([
    ['the present one', t2],
    ['the one before', t1],
  ])('two tokens: %s is good', (_which, token) => {
    const { link, other } = setUp()
    link.open()
    link.keep({}, [t2, t1])
    expect(other.seek(token, t3)).toEqual(found(1))
  })

  test('out says what the client has: it need not be kept', () => {
    const { bench, link, other } = setUp()
    link.open({ credit: 3 })
    for (const text of ['a', 'b', 'c', 'd']) bench.session.send(text)
    expect(outputsOf(link.answers())).toEqual(['1 a', '2 b', '3 c'])
    expect(outputsOf(link.keep({ out: 2 }, [t1]))).toEqual(['4 d'])
    expect([resumed(other, 1), outputsOf(resumed(other, 2))]).toEqual([['REFUSED 70(9) GAP'], ['3 c', '4 d']])
  })
})

describe('credit', () => {
  test('is a window: outputs use it, ACKED gives back what it frees, CREDIT nothing', async () => {
    const { bench, link } = setUp()
    link.open({ credit: 10 })
    const { session } = bench
    expect([session.send('12345'), session.send('67890'), session.send('x')]).toEqual([true, false, false])
    expect(outputsOf(link.answers())).toEqual(['1 12345', '2 67890'])
    let drained = false
    void session.drained().then(() => (drained = true))
    expect(link.on('credit', {}, u32s([1_000]))).toEqual([])
    expect(outputsOf(link.acked({}, 1))).toEqual(['3 x'])
    await Promise.resolve()
    expect(drained).toBe(true)
    expect([session.send('1234'), session.send('')]).toEqual([false, false])
    expect(link.acked({}, 1)).toEqual(['OUTPUT 7(1) 4 1234'])
    expect(link.acked({}, 4)).toEqual(['OUTPUT 7(1) 5 '])
    expect([session.send('123456789'), session.send('1'), session.send('x')]).toEqual([true, false, false])
  })

  test('counts the bytes of UTF-8, and those of binary outputs', () => {
    const { bench, link } = setUp()
    link.open({ credit: 7 })
    expect([bench.session.send('äöü'), bench.session.send(Uint8Array.of(1))]).toEqual([true, false])
    link.acked({}, 1)
    expect(bench.session.send('12345')).toBe(true)
  })

  test('TAIL uses it up, whether it comes before the outputs of this assignment or behind them', () => {
    const { bench, link, other } = setUp()
    bench.onOpen = (session) => void session.send('open')
    expect(link.open({ credit: 10, out: 12, recovered: true })).toEqual(['OUTPUT 7(1) 13 open'])
    link.keep({ out: 9 }, [t1])
    for (const seq of [10, 11, 12]) link.tail({}, seq)
    expect(bench.session.send('more')).toBe(false)
    expect(link.answers()).toEqual([])
    expect(outputsOf(link.acked({}, 11))).toEqual(['14 more'])
    expect(outputsOf(resumed(other, 11))).toEqual(['12 o12', '13 open', '14 more'])
  })

  test('a TAIL that is not whole is of no use to a client that needs it, and none to one that has it', () => {
    const { bench, link, other } = setUp()
    link.open({ out: 12, recovered: true })
    link.keep({ out: 9 }, [t1])
    link.tail({}, 10)
    bench.session.send('own')
    expect(resumed(other, 9)).toEqual(['REFUSED 70(9) GAP'])
    expect(outputsOf(resumed(other, 12))).toEqual(['13 own'])
  })

  test('LATE outputs are not kept; the credit they used is back when the hand-over is called off', () => {
    const { bench, link, other } = setUp()
    link.open({ credit: 10 })
    link.keep({}, [t1])
    const { session } = bench
    session.send('12345')
    link.on('quiesce', {}, u32s([2]))
    expect([session.send('late!'), session.send('none')]).toEqual([true, false])
    expect(link.answers()).toEqual(['OUTPUT 7(1) late 0 late!'])
    link.on('resume', {}, u32s([2]))
    expect([session.send('1234'), session.send('1')]).toEqual([true, false])
    expect(outputsOf(resumed(other, 0))).toEqual(['1 12345', '2 1234', '3 1'])
  })

  test('what is sent beyond it waits up to its bound, then the session is closed', () => {
    const { bench, link } = setUp()
    link.open({ credit: 1 })
    const piece = 'x'.repeat(defaultLimits.clientBufferBytes)
    bench.session.send(piece)
    bench.session.send(piece)
    link.answers()
    expect(bench.session.open).toBe(true)
    bench.session.send('one more')
    expect(link.answers()).toEqual(['CLOSE 7(1) 4008'])
    expect(bench.closes).toEqual(['node'])
  })
})

test('an output is kept as it was, whatever becomes of the buffer', () => {
  const { bench, link, other } = setUp()
  link.open()
  link.keep({}, [t1])
  const bytes = Uint8Array.of(1, 2, 3)
  bench.session.send(bytes)
  bytes.fill(9)
  expect(outputsOf(resumed(other, 0))).toEqual(['1 010203'])
})

test('MESSAGE with a number that it has is dropped, prepared or not', () => {
  const { bench, link } = setUp()
  link.prepare({ term: 2 })
  for (const seq of [1, 2, 2, 1]) link.message({ term: 2 }, seq)
  link.activate({ term: 2 })
  expect(link.message({ term: 2 }, 2, RecordFlag.redelivered)).toEqual([])
  expect(link.message({ term: 2 }, 3)).toEqual(['COMMIT 7(2) 3'])
  expect(bench.messages).toEqual(['m1', 'm2', 'm3'])
})

test('RELEASE, CLOSE and a close of its own end it: it is not found any more', () => {
  const { bench, link, other } = setUp()
  link.open({ number: 1 })
  link.keep({ number: 1 }, [t1])
  bench.session.close(4001)
  expect(link.answers()).toEqual(['CLOSE 1(1) 4001'])
  expect(other.seek(t1, t2)).toEqual(notFound('unknown'))
  link.open({ number: 2 })
  link.keep({ number: 2 }, [t1])
  expect(link.on('close', { number: 2 }, Buffer.from([0xe8, 3]))).toEqual(['CLOSED 2(1)'])
  expect(other.seek(t1, t2)).toEqual(notFound('unknown'))
  link.open({ number: 3 })
  link.keep({ number: 3 }, [t1])
  link.on('quiesce', { number: 3 }, u32s([2]))
  link.on('release', { number: 3 })
  expect(other.seek(t1, t2)).toEqual(notFound('unknown'))
  expect(bench.closes).toEqual(['node', 'client 1000', 'migrated'])
})

describe('channels', () => {
  const taken = (answers: string[]) => /\[(.*)\]/.exec(answers[0]!)![1]!.split(',').filter(Boolean).sort()

  test('those of KEEP, and what the session has done since it came', () => {
    const { bench, link, other } = setUp()
    bench.onOpen = (session) => {
      session.join('early')
      session.leave('old')
    }
    link.open({ recovered: true })
    link.keep({}, [t1], ['old', 'room'])
    bench.session.join('late')
    bench.session.leave('room')
    link.keep({}, [t1], null, 2)
    expect(taken(resumed(other, 0))).toEqual(['early', 'late'])
  })

  test('of a session that was prepared, KEEP behind ACTIVATE says them', () => {
    const { bench, link, other } = setUp()
    bench.onOpen = (session) => session.join('early')
    link.prepare({ term: 2 })
    link.keep({ term: 2 }, [t1], null)
    link.activate({ term: 2 })
    link.keep({ term: 2 }, [t1], ['room'], 2)
    expect(taken(resumed(other, 0))).toEqual(['early', 'room'])
  })

  test('one that was refused is not among them, nor what was done after the end', () => {
    const { bench, link, other } = setUp()
    link.open()
    link.keep({}, [t1], ['room'])
    bench.session.join('too-many')
    link.on('denied', {}, Buffer.from('too-many'))
    expect(bench.notJoined).toEqual(['too-many'])
    link.on('quiesce', {}, u32s([2]))
    bench.session.join('from-old-code')
    expect(link.answers()).not.toContain('JOIN 7(1) from-old-code')
    expect(taken(resumed(other, 0))).toEqual(['room'])
  })

  test('while it has no link: joined and left all the same, and said with TAKEN', () => {
    const { bench, link, other } = setUp()
    link.open()
    link.keep({}, [t1], ['room'])
    link.lose()
    bench.session.join('meanwhile')
    bench.session.leave('room')
    expect(taken(resumed(other, 0))).toEqual(['meanwhile'])
    bench.session.join('again')
    expect(other.answers()).toEqual(['JOIN 70(9) again'])
  })
})
