import { describe, expect, test } from 'vitest'
import { judgeHandlings, Ledger, noFaults, type Verdict } from '../support/ledger.ts'
import { formatHandling, type Handling, type Output, parseHandlings } from '../support/ledger-message.ts'

type Brief = Partial<Output> & { o: number; n: number }

/** A ledger of a client that has sent `sent` messages and heard these outputs. */
function judge(sent: number, outputs: readonly Brief[]): Verdict {
  const ledger = new Ledger()
  for (let i = 0; i < sent; i++) ledger.send()
  for (const output of outputs) {
    const { n } = output
    ledger.hear({
      kind: 'echo',
      count: n,
      sum: (n * (n + 1)) / 2,
      unpaired: 0,
      node: 'a',
      session: 's',
      term: 1,
      redelivered: false,
      pad: '',
      ...output,
    })
  }
  return ledger.verdict()
}

function out(o: number, n: number, count = n, sum = (n * (n + 1)) / 2): Brief {
  return { o, n, count, sum }
}

/** Echoes of messages 1, 2, 3, … in output 1, 2, 3, … */
function echoes(...numbers: number[]): Brief[] {
  return numbers.map((n) => out(n, n))
}

function again(...numbers: number[]): Brief[] {
  return numbers.map((n) => ({ o: n, n, redelivered: true }))
}

describe('a client ledger', () => {
  test('finds nothing wrong with one echo for each message, pushes before it', () => {
    const outputs: Brief[] = [
      { o: 1, n: 1, kind: 'push' },
      { o: 2, n: 1 },
      { o: 3, n: 2 },
    ]
    expect(judge(2, outputs)).toEqual({
      ...noFaults,
      sent: 2,
      answered: 2,
      outputs: 3,
      repeated: 0,
      count: 2,
      session: 's',
      notes: [],
    })
  })

  test.each<[string, number, Brief[], Partial<Verdict>]>([
    ['the last message lost', 3, echoes(1, 2), { lost: 1 }],
    ['a message lost on its way to the node', 3, [out(1, 1), out(2, 3, 2, 4)], { lost: 1 }],
    ['a push lost on its way to the client', 2, [out(1, 1), out(3, 2)], { lost: 1 }],
    ['an output that came twice', 2, [...echoes(1, 2), out(2, 2)], { doubled: 1 }],
    ['a message that was handled twice', 2, [out(1, 1), out(2, 1, 2, 2), out(3, 2, 3, 4)], { doubled: 1 }],
    ['outputs that changed places', 1, [out(2, 1), { ...out(1, 1), kind: 'push' }], { reordered: 1 }],
    ['messages that changed places', 3, [out(1, 1), out(2, 3, 2, 4), out(3, 2, 3, 6)], { reordered: 1 }],
    ['a count that skips', 2, [out(1, 1), out(2, 2, 3)], { miscounted: 1 }],
    ['a count that repeats', 2, [out(1, 1), out(2, 2, 1, 2)], { miscounted: 1 }],
    ['a hook that has not run', 1, [{ ...out(1, 1), unpaired: 1 }], { miscounted: 1 }],
    ['an answer to what was never sent', 1, echoes(1, 2), { corrupted: 1 }],
    ['an output of another session', 2, [out(1, 1), { ...out(2, 2), session: 't' }], { corrupted: 1 }],
  ])('sees %s', (_what, sent, outputs, faults) => {
    expect(judge(sent, outputs)).toMatchObject({ ...noFaults, ...faults })
  })

  test('lets outputs of a redelivered message come again, from some point on', () => {
    expect(judge(4, [...echoes(1, 2, 3), ...again(2, 3), { o: 4, n: 4 }])).toMatchObject({
      ...noFaults,
      repeated: 2,
    })
    expect(judge(4, [...echoes(1, 2), ...again(2), ...again(1, 2), ...echoes(3, 4)])).toMatchObject({
      ...noFaults,
      repeated: 3,
    })
  })

  test.each<[string, Brief[], Partial<Verdict>]>([
    ['skip one', [...echoes(1, 2, 3), ...again(1, 3)], { reordered: 1 }],
    ['end too early', [...echoes(1, 2, 3), ...again(2), { o: 4, n: 4 }], { reordered: 1 }],
    ['are of another message', [...echoes(1, 2, 3), { o: 3, n: 2, redelivered: true }], { miscounted: 1 }],
  ])('sees repeated outputs that %s', (_what, outputs, faults) => {
    expect(judge(4, outputs)).toMatchObject(faults)
  })
})

/** `at` follows the order of the list. */
function handlings(...lines: (Partial<Handling> & { n: number })[]): Handling[] {
  return lines.map((line, at) => ({
    node: 'a',
    session: 's',
    term: 1,
    redelivered: false,
    event: 'begin',
    at,
    ...line,
  }))
}

const done = { event: 'done' } as const
const onB = { node: 'b', term: 2 } as const
const clean = { unmarked: 0, disordered: 0, overlapping: 0 }

describe("the nodes' ledgers", () => {
  test('find nothing wrong with one message after the other, wherever', () => {
    const lines = handlings({ n: 1 }, { n: 1, ...done }, { n: 2, ...onB }, { n: 2, ...onB, ...done })
    expect(judgeHandlings(lines)).toMatchObject({ ...clean, handled: 2, redelivered: 0 })
  })

  test('let a message be handled again when it is marked', () => {
    const lines = handlings(
      { n: 1 },
      { n: 1, ...done },
      { n: 2 },
      { n: 1, redelivered: true, ...onB },
      { n: 1, ...onB, ...done },
      { n: 2, redelivered: true, ...onB },
    )
    expect(judgeHandlings(lines)).toMatchObject({ ...clean, handled: 4, redelivered: 2 })
  })

  test.each<[keyof typeof clean, Handling[]]>([
    ['unmarked', handlings({ n: 1 }, { n: 1, ...done }, { n: 1, ...onB })],
    ['disordered', handlings({ n: 1 }, { n: 1, ...done }, { n: 3 })],
    ['disordered', handlings({ n: 1, ...onB }, { n: 1, ...onB, ...done }, { n: 2 })],
    ['overlapping', handlings({ n: 1 }, { n: 2, ...onB })],
  ])('see what is %s', (fault, lines) => {
    expect(judgeHandlings(lines)).toMatchObject({ ...clean, [fault]: 1 })
  })

  test('are read back as they were written, without the half line of a node that was killed', () => {
    const [line] = handlings({ n: 7, redelivered: true, ...done })
    const text = formatHandling(line!)
    expect(parseHandlings('a', `${text}${text}begin s 1`)).toEqual([
      { ...line, at: 0 },
      { ...line, at: 0 },
    ])
  })
})
