import { describe, expect, test } from 'vitest'
import { EvenkeelError } from '../../src/protocol/errors.ts'
import { u32s } from '../support/link-wire.ts'
import { type BenchLink, SdkBench } from '../support/sdk-bench.ts'

/** PROTOCOL.md §1.10: how a resumable session loses its link, in each of its phases, and what becomes of it then. */

const [t1, t2, t3] = ['1', '2', '3'].map((digit) => digit.repeat(43)) as [string, string, string]
const found = (term: number) => [`FOUND {"seek":1,"term":${term},"live":true}`]
const prepared = (term: number) => [`FOUND {"seek":1,"term":${term},"live":false}`]
const notFound = (reason: string) => [`FOUND {"seek":1,"term":0,"reason":"${reason}"}`]
const resumeMs = 60_000

interface Stage {
  bench: SdkBench
  /** Where the session is. */
  link: BenchLink
  /** Of another gateway. */
  other: BenchLink
  /** Ends the handler in flight. */
  settle: () => Promise<void>
}

function setUp(delivery: 'stream' | 'atomic' = 'stream'): Stage {
  const bench = new SdkBench(delivery)
  const handler = Promise.withResolvers<void>()
  const settle = async () => {
    handler.resolve()
    await new Promise(setImmediate)
  }
  bench.busy.message = handler.promise
  return { bench, link: bench.link({ resumeMs }), other: bench.link({ instance: 'g2', resumeMs }), settle }
}

/** Open, under token t1. */
function openSession(link: BenchLink): void {
  link.open()
  link.keep({}, [t1])
}

/** Makes the session lose its link. Returns what was said on the link that it had. */
type Loss = (stage: Stage) => string[]

const losses: [string, Loss][] = [
  [
    'the link closes',
    ({ link }) => {
      link.lose()
      return []
    },
  ],
  [
    'another gateway looks for it',
    ({ link, other }) => {
      expect(other.seek(t1, t2)).toEqual(found(1))
      return link.answers()
    },
  ],
]

describe.each(losses)('%s', (what, lose) => {
  const isSought = what.startsWith('another')
  const lost = isSought ? ['LOST 7(1)'] : []
  /** It can be found by this token afterwards. */
  const token = isSought ? t2 : t1

  test('an open session goes on: it handles, sends and commits', async () => {
    const stage = setUp()
    const { bench, link, other, settle } = stage
    openSession(link)
    for (const seq of [1, 2]) link.message({}, seq)
    expect(lose(stage)).toEqual(lost)
    bench.session.send('from the handler')
    bench.session.state = { from: 'm1' }
    await settle()
    expect(bench.told).toEqual(['open', 'm1', 'm2'])
    expect([bench.session.open, bench.resumable.orphanCount, link.table.size]).toEqual([true, 1, 0])
    expect(other.seek(token, t3)).toEqual(found(1))
    expect(other.take({ number: 70, term: 9 })).toEqual([
      'TAKEN 70(9) 2 s [] {"from":"m1"}',
      'OUTPUT 70(9) 1 from the handler',
    ])
  })

  test('a hand-over that waits for the handler is called off', async () => {
    const stage = setUp()
    const { bench, link, settle } = stage
    openSession(link)
    for (const seq of [1, 2]) link.message({}, seq)
    link.on('quiesce', {}, u32s([2]))
    expect(lose(stage)).toEqual(lost)
    await settle()
    expect(bench.told).toEqual(['open', 'm1', 'm2'])
  })

  test('a hand-over whose close hook is in flight is called off when it ends', async () => {
    const stage = setUp()
    const { bench, link, settle } = stage
    bench.busy.close = bench.busy.message!
    bench.busy.message = Promise.resolve()
    openSession(link)
    link.on('quiesce', {}, u32s([2]))
    link.message({}, 1)
    expect(lose(stage)).toEqual(lost)
    expect(bench.told).toEqual(['open', 'close migrated'])
    await settle()
    expect(bench.told).toEqual(['open', 'close migrated', 'open recovered', 'm1'])
    expect(link.answers()).toEqual([])
  })

  test('behind FIN it waits: the target may have it, and only who takes it knows better', () => {
    const stage = setUp()
    const { bench, link, other } = stage
    openSession(link)
    expect(link.on('quiesce', {}, u32s([2]))).toEqual(['FIN 7(1) 2'])
    for (const seq of [1, 2]) link.message({}, seq)
    bench.busy.message = Promise.resolve()
    expect(lose(stage)).toEqual(lost)
    expect(bench.told).toEqual(['open', 'close migrated'])
    expect(other.seek(token, t3)).toEqual(found(1))
    expect(bench.told).toEqual(['open', 'close migrated'])
    expect(other.take({ number: 70, term: 9 })).toEqual(['TAKEN 70(9) 0 s []'])
    expect(bench.told).toEqual(['open', 'close migrated', 'open recovered', 'm1'])
    // Nobody knows whether the target has handled it.
    expect(bench.redelivered).toEqual(['m1'])
    expect(bench.session.open).toBe(true)
  })

  test('one that has refused to be handed over goes on at once: nobody else can have it', () => {
    const stage = setUp()
    const { bench, link } = stage
    openSession(link)
    bench.onClose = () => {
      throw new EvenkeelError('VETO', 'not now')
    }
    expect(link.on('quiesce', {}, u32s([2]))).toEqual(['REFUSED 7(1) VETO'])
    link.message({}, 1)
    expect(lose(stage)).toEqual(lost)
    expect(bench.told).toEqual(['open', 'close migrated', 'open recovered', 'm1'])
    expect(bench.redelivered).toEqual([])
  })

  test('behind FIN it ends without a word to the application, which has closed it, when its client goes on elsewhere', () => {
    const stage = setUp()
    const { bench, link, other } = stage
    openSession(link)
    link.on('quiesce', {}, u32s([2]))
    link.message({}, 1)
    expect(lose(stage)).toEqual(lost)
    other.drop(2)
    expect([bench.told, bench.resumable.orphanCount]).toEqual([['open', 'close migrated'], 0])
  })

  test('behind FIN it ends in the same way when nobody comes', () => {
    const stage = setUp()
    const { bench, link } = stage
    openSession(link)
    link.on('quiesce', {}, u32s([2]))
    expect(lose(stage)).toEqual(lost)
    bench.nowMs += resumeMs
    bench.resumable.expire()
    expect([bench.told, bench.resumable.orphanCount]).toEqual([['open', 'close migrated'], 0])
  })

  test('who waits for the link is woken', async () => {
    const stage = setUp()
    const { bench, link } = stage
    openSession(link)
    link.link.congested = true
    expect(bench.session.send('x')).toBe(false)
    let woken = false
    void bench.session.drained().then(() => (woken = true))
    lose(stage)
    await Promise.resolve()
    expect(woken).toBe(true)
  })

  test('what it sends is kept within the credit, waits up to the bound, and closes it past that', async () => {
    const stage = setUp()
    const { bench, link, other } = stage
    openSession(link)
    lose(stage)
    const { session } = bench
    const piece = 'x'.repeat(900)
    expect([session.send(piece), session.send(piece), session.send('waits')]).toEqual([true, false, false])
    other.seek(token, t3)
    const answers = other.take({ number: 70, term: 9 })
    expect(answers.map((one) => one.slice(0, 16))).toEqual([
      'TAKEN 70(9) 0 s ',
      'OUTPUT 70(9) 1 x',
      'OUTPUT 70(9) 2 x',
    ])
    expect(other.acked({ number: 70, term: 9 }, 2)).toEqual(['OUTPUT 70(9) 3 waits'])
    const third = bench.link({ instance: 'g3' })
    third.seek(t3, t1)
    const large = 'x'.repeat(600_000)
    for (let i = 0; i < 3; i++) session.send(large)
    expect([session.open, bench.closes]).toEqual([false, ['node']])
    expect(third.seek(t1, t2)).toEqual(notFound('unknown'))
  })

  test('the application may end it', () => {
    const stage = setUp()
    const { bench, link, other } = stage
    openSession(link)
    lose(stage)
    bench.session.close(4001)
    expect([bench.closes, bench.resumable.orphanCount]).toEqual([['node'], 0])
    expect(other.seek(token, t3)).toEqual(notFound('unknown'))
  })

  test('it ends when nobody has taken it in time, behind what it has begun', async () => {
    const stage = setUp()
    const { bench, link, other, settle } = stage
    openSession(link)
    for (const seq of [1, 2]) link.message({}, seq)
    bench.nowMs = 5_000
    lose(stage)
    bench.nowMs += resumeMs - 1
    bench.resumable.expire()
    expect(bench.resumable.isAwaited).toBe(true)
    bench.nowMs += 1
    expect(bench.orphanChanges).toBe(0)
    bench.resumable.expire()
    bench.resumable.expire()
    expect(bench.orphanChanges).toBe(1)
    expect([bench.closes, bench.resumable.isAwaited, bench.resumable.orphanCount]).toEqual([[], false, 1])
    expect(other.seek(token, t3)).toEqual(notFound('unknown'))
    expect(other.take({ number: 70, term: 9 })).toEqual(['REFUSED 70(9) STALE'])
    await settle()
    expect(bench.told).toEqual(['open', 'm1', 'm2', 'close client 1006'])
    expect([bench.session.open, bench.resumable.orphanCount, bench.orphanChanges]).toEqual([false, 0, 2])
  })
})

describe('the link closes', () => {
  test('a prepared session is forgotten', () => {
    const { bench, link, other } = setUp()
    link.prepare({ term: 2 })
    link.lose()
    expect([bench.told, bench.resumable.orphanCount]).toEqual([[], 0])
    expect(other.seek(t1, t2)).toEqual(notFound('unknown'))
  })

  test('one whose client has left ends', async () => {
    const { bench, link, other, settle } = setUp()
    bench.busy.close = bench.busy.message!
    openSession(link)
    link.on('close', {}, Buffer.from([0xe8, 3]))
    link.lose()
    await settle()
    expect([bench.told, bench.resumable.orphanCount]).toEqual([['open', 'close client 1000'], 0])
    expect(other.seek(t1, t2)).toEqual(notFound('unknown'))
  })

  test('so does one whose client leaves during a hand-over, and it is not found before either', async () => {
    const { bench, link, other, settle } = setUp()
    openSession(link)
    link.message({}, 1)
    link.on('quiesce', {}, u32s([2]))
    link.on('close', {}, Buffer.from([0xe8, 3]))
    expect(other.seek(t1, t2)).toEqual(notFound('unknown'))
    link.lose()
    await settle()
    expect([bench.told, bench.resumable.orphanCount]).toEqual([['open', 'm1', 'close link-lost'], 0])
  })

  test('and the node stops: it ends like any other', () => {
    const { bench, link } = setUp()
    openSession(link)
    link.lose({ forGood: true })
    expect([bench.closes, bench.resumable.orphanCount]).toEqual([['link-lost'], 0])
    openSession(bench.link())
    const again = bench.link({ instance: 'g3' })
    again.open({ term: 2 })
    again.lose()
    bench.resumable.close()
    expect(bench.closes).toEqual(['link-lost', 'link-lost', 'link-lost'])
  })

  test('a link to the same gateway process comes up: what is left of the former one ends', () => {
    const { bench, link } = setUp()
    openSession(link)
    link.lose()
    bench.resumable.linkUp('g3')
    expect(bench.closes).toEqual([])
    bench.resumable.linkUp('g1')
    expect([bench.closes, bench.resumable.orphanCount]).toEqual([['link-lost'], 0])
  })

  test('but not what another gateway looks for since', () => {
    const { bench, link, other } = setUp()
    openSession(link)
    link.lose()
    other.seek(t1, t2)
    bench.resumable.linkUp('g1')
    expect(other.take({ number: 70, term: 2 })).toEqual(['TAKEN 70(2) 0 s []'])
    expect(bench.closes).toEqual([])
  })
})

describe('SEEK', () => {
  test('finds what was never here as little as what is not resumable', () => {
    const { link, other } = setUp()
    link.open({ resumable: false })
    expect(other.seek(t1, t2)).toEqual(notFound('unknown'))
    expect(other.seek(t1, t2, 'another')).toEqual(notFound('unknown'))
  })

  test('under a token that is not its own: nothing has happened', () => {
    const { bench, link, other } = setUp()
    openSession(link)
    expect(other.seek(t2, t3)).toEqual(notFound('token'))
    expect([link.answers(), link.table.size, bench.resumable.orphanCount]).toEqual([[], 1, 0])
    expect(other.seek(t1, t3)).toEqual(found(1))
  })

  test('under a good one: it is given away under that one and the next, and under no other', () => {
    const { bench, link, other } = setUp()
    link.open()
    link.keep({}, [t2, t1])
    const third = bench.link({ instance: 'g3' })
    expect(other.seek(t1, t3)).toEqual(found(1))
    expect(other.seek(t2, t3)).toEqual(notFound('token'))
    expect(third.seek(t1, t2)).toEqual(found(1))
    expect(third.seek(t3, t2)).toEqual(notFound('token'))
    expect(third.seek(t2, t3)).toEqual(found(1))
  })

  test('records of the gateway that has lost it are stale; its KEEP is answered', () => {
    const { bench, link, other } = setUp()
    openSession(link)
    other.seek(t1, t2)
    expect(link.answers()).toEqual(['LOST 7(1)'])
    expect([link.message({}, 1), link.on('release', {}), link.on('quiesce', {}, u32s([2]))]).toEqual([
      [],
      [],
      [],
    ])
    expect(link.keep({}, [t3], null, 2)).toEqual(['LOST 7(1)'])
    expect([bench.told, link.table.staleRecords]).toEqual([['open'], 4])
  })

  test('what the turn has done is committed before LOST', async () => {
    const { bench, link, other } = setUp('atomic')
    bench.onMessage = (session, data) => {
      session.send(`to ${data}`)
      session.state = data
      return Promise.resolve()
    }
    openSession(link)
    link.message({}, 1)
    await Promise.resolve()
    expect(other.seek(t1, t2)).toEqual(found(1))
    expect(link.answers()).toEqual(['OUTPUT 7(1) held 1 to m1', 'COMMIT 7(1) 1 "m1"', 'LOST 7(1)'])
    expect(other.take({ number: 70, term: 2 })).toEqual(['TAKEN 70(2) 1 s [] "m1"', 'OUTPUT 70(2) 1 to m1'])
  })

  test('over the link that has it: it leaves that link too', () => {
    const { link } = setUp()
    openSession(link)
    expect(link.seek(t1, t2)).toEqual(['LOST 7(1)', ...found(1)])
    expect(link.take({ number: 70, term: 2 })).toEqual(['TAKEN 70(2) 0 s []'])
  })

  test('a prepared session is forgotten', () => {
    const { bench, link, other } = setUp()
    link.prepare({ term: 4 })
    link.keep({ term: 4 }, [t1], null)
    expect(other.seek(t1, t2)).toEqual(prepared(4))
    expect(link.answers()).toEqual(['LOST 7(4)'])
    expect([link.activate({ term: 4 }), link.keep({ term: 4 }, [t1])]).toEqual([[], ['LOST 7(4)']])
    expect(bench.told).toEqual([])
    expect(other.take({ number: 70, term: 9 })).toEqual(['REFUSED 70(9) STALE'])
  })

  test('a prepared session under a token that is not its own: nothing has happened', () => {
    const { bench, link, other } = setUp()
    link.prepare({ term: 4 })
    link.keep({ term: 4 }, [t1], null)
    link.keep({ term: 4 }, [t3], null, 2)
    for (const token of [t1, t2]) expect(other.seek(token, t2)).toEqual(notFound('token'))
    expect(link.answers()).toEqual([])
    link.activate({ term: 4 })
    expect(bench.told).toEqual(['open recovered'])
    // Its tokens are known from the start.
    expect(other.seek(t3, t2)).toEqual(found(4))
  })

  test('one whose client has left is not found', async () => {
    const { bench, link, other, settle } = setUp()
    openSession(link)
    link.message({}, 1)
    link.on('close', {}, Buffer.from([0xe8, 3]))
    expect(other.seek(t1, t2)).toEqual(notFound('unknown'))
    await settle()
    expect(link.answers()).toEqual(['COMMIT 7(1) 1', 'CLOSED 7(1)'])
    expect(bench.closes).toEqual(['client 1000'])
  })

  test('it waits for the next one if nobody takes it, for the whole time', () => {
    const { bench, link, other } = setUp()
    openSession(link)
    link.lose()
    bench.nowMs = resumeMs - 1
    other.seek(t1, t2)
    bench.nowMs += resumeMs - 1
    bench.resumable.expire()
    expect(bench.link({ instance: 'g3' }).seek(t2, t3)).toEqual(found(1))
  })
})

describe('several of one id', () => {
  test.each(['open', 'activate'] as const)('%s in a higher term ends the one without a link', (how) => {
    const { bench, link, other } = setUp()
    openSession(link)
    link.lose()
    if (how === 'open') other.open({ number: 70, term: 2, recovered: true })
    else {
      expect(other.prepare({ number: 70, term: 2 })).toEqual(['READY 70(2)'])
      expect([bench.closes, bench.resumable.orphanCount]).toEqual([[], 1])
      other.activate({ number: 70, term: 2 })
    }
    expect(bench.told).toEqual(['open', 'close link-lost', 'open recovered'])
    expect([bench.resumable.orphanCount, other.table.size]).toEqual([0, 1])
  })

  test('… and the one of another link, whose gateway is told', () => {
    const { bench, link, other } = setUp()
    openSession(link)
    other.open({ number: 70, term: 2, recovered: true })
    expect([bench.closes, link.answers(), link.table.size]).toEqual([['link-lost'], ['LOST 7(1)'], 0])
    link.prepare({ number: 8, term: 3 })
    expect(other.answers()).toEqual([])
    link.activate({ number: 8, term: 3 })
    expect([bench.closes.length, other.answers()]).toEqual([2, ['LOST 70(2)']])
  })

  test.each(['open', 'prepare'] as const)('%s in a term that is not higher is refused', (kind) => {
    const { bench, link, other } = setUp()
    link.open({ term: 5 })
    link.lose()
    for (const term of [4, 5]) {
      expect(other[kind]({ number: 70, term })).toEqual([`REFUSED 70(${term}) STALE`])
    }
    expect([bench.closes, bench.resumable.orphanCount]).toEqual([[], 1])
    // Another session is another matter, and so is one that nobody can look for.
    expect(other[kind]({ number: 71, term: 1, resumable: false })).not.toContain('REFUSED 71(1) STALE')
  })

  test('SEEK: the live one answers, what is prepared is forgotten', () => {
    const { bench, link, other } = setUp()
    openSession(link)
    link.lose()
    const third = bench.link({ instance: 'g3' })
    other.prepare({ number: 70, term: 4 })
    other.keep({ number: 70, term: 4 }, [t1], null)
    expect(third.seek(t1, t2)).toEqual(found(1))
    expect(other.answers()).toEqual(['LOST 70(4)'])
    expect(third.take({ number: 700, term: 2 })).toEqual(['TAKEN 700(2) 0 s []'])
  })

  test('SEEK under a token that the live one does not know: what is prepared answers', () => {
    const { bench, link, other } = setUp()
    openSession(link)
    link.lose()
    other.prepare({ number: 70, term: 4 })
    other.keep({ number: 70, term: 4 }, [t2], null)
    expect(bench.link({ instance: 'g3' }).seek(t2, t3)).toEqual(prepared(4))
    expect(other.answers()).toEqual(['LOST 70(4)'])
    expect([bench.closes, bench.resumable.orphanCount]).toEqual([[], 1])
  })
})

describe('DROP', () => {
  test('ends the session in a term that is not higher than its own', () => {
    const { bench, link, other } = setUp()
    link.open({ term: 3 })
    link.keep({ term: 3 }, [t1])
    link.lose()
    other.drop(2)
    expect(bench.closes).toEqual([])
    other.drop(3)
    expect([bench.closes, bench.resumable.orphanCount]).toEqual([['link-lost'], 0])
    expect(other.seek(t1, t2)).toEqual(notFound('unknown'))
  })

  test('wherever it is, opened or prepared; the gateways that have it are told', () => {
    const { bench, link, other } = setUp()
    openSession(link)
    other.prepare({ number: 70, term: 2 })
    bench.link({ instance: 'g3' }).drop(9)
    expect([bench.closes, link.answers(), other.answers()]).toEqual([
      ['link-lost'],
      ['LOST 7(1)'],
      ['LOST 70(2)'],
    ])
    expect([link.table.size, other.table.size]).toEqual([0, 0])
  })
})
