import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Ledger } from '../../src/cli/demo/ledger.ts'
import { Pauses } from '../../src/cli/demo/pauses.ts'

const overdueMs = 1_000
const clean = { lost: 0, doubled: 0, reordered: 0 }

/** A conversation of `asked` messages, all sent at 0. */
function conversation(asked: number): Ledger {
  const ledger = new Ledger({ name: 'c1', overdueMs })
  for (let number = 1; number <= asked; number++) expect(ledger.ask(0)).toBe(`c1 ${number}`)
  return ledger
}

function answer(number: number, count = number, name = 'c1'): string {
  return JSON.stringify({ node: 'node-1', count, echo: `${name} ${number}` })
}

function judge(asked: number, answers: [number: number, count?: number][], nowMs = 0) {
  const ledger = conversation(asked)
  for (const [number, count] of answers) ledger.answer(answer(number, count))
  return ledger.verdict(nowMs)
}

describe('the ledger of a demo client', () => {
  test('finds nothing wrong with every answer once and in order', () => {
    expect(judge(3, [[1], [2], [3]], overdueMs)).toEqual(clean)
    expect(judge(3, [[1]])).toEqual(clean)
  })

  test('counts a number that was skipped as lost, once', () => {
    // The answer was lost, then the message itself.
    expect(judge(4, [[1], [3], [4]])).toEqual({ ...clean, lost: 1 })
    expect(judge(4, [[1], [3, 2], [4, 3]])).toEqual({ ...clean, lost: 1 })
  })

  test('counts what is not answered in time as lost, until it is', () => {
    const ledger = conversation(2)
    expect(ledger.verdict(overdueMs - 1)).toEqual(clean)
    expect(ledger.verdict(overdueMs)).toEqual({ ...clean, lost: 2 })
    ledger.answer(answer(1))
    ledger.answer(answer(2))
    expect(ledger.verdict(overdueMs)).toEqual(clean)
  })

  test('counts what has no answer when the connection ends as lost', () => {
    const ledger = conversation(3)
    ledger.answer(answer(1))
    expect(ledger.end()).toEqual({ ...clean, lost: 2 })
  })

  test('counts a state that forgot a message as lost, and one that counted it twice as doubled', () => {
    expect(judge(3, [[1], [2, 1], [3, 2]])).toEqual({ ...clean, lost: 1 })
    expect(judge(3, [[1], [2, 3], [3, 4]])).toEqual({ ...clean, doubled: 1 })
  })

  test('counts an answer that comes again as doubled, once', () => {
    expect(judge(3, [[1], [2], [2], [3]])).toEqual({ ...clean, doubled: 1 })
    // The message was handled again, too.
    expect(judge(3, [[1], [2], [2, 3], [3, 4]])).toEqual({ ...clean, doubled: 1 })
  })

  test('counts an answer that comes after a later one as reordered, not as lost', () => {
    expect(judge(4, [[1], [3], [2], [4]], overdueMs)).toEqual({ ...clean, reordered: 1 })
    expect(judge(4, [[1], [3, 2], [2, 3], [4]], overdueMs)).toEqual({ ...clean, reordered: 1 })
  })

  test.each([
    ['no JSON', 'hello'],
    ['no object', 'null'],
    ['no count', '{"echo":"c1 1"}'],
    ['the answer of another client', answer(1, 1, 'c2')],
    ['the answer to a message not sent yet', answer(2)],
    ['the answer to no number', '{"count":1,"echo":"c1 x"}'],
  ])('counts %s as doubled: nobody asked for it', (_, text) => {
    const ledger = conversation(1)
    ledger.answer(text)
    ledger.answer(answer(1))
    expect(ledger.verdict(overdueMs)).toEqual({ ...clean, doubled: 1 })
  })

  test('any single fault is found, wherever it is', () => {
    const fault = fc.constantFrom('skip', 'repeat', 'swap', 'forget' as const)
    fc.assert(
      fc.property(fc.integer({ min: 3, max: 40 }), fc.nat(), fault, (asked, somewhere, kind) => {
        const at = 1 + (somewhere % (asked - 2))
        const numbers = Array.from({ length: asked }, (_, index) => index + 1)
        let counts = (number: number) => number
        if (kind === 'skip') numbers.splice(at - 1, 1)
        if (kind === 'repeat') numbers.splice(at, 0, at)
        if (kind === 'swap') numbers.splice(at - 1, 2, at + 1, at)
        if (kind === 'forget') counts = (number) => (number < at ? number : number - 1)
        const found = judge(
          asked,
          numbers.map((number) => [number, counts(number)]),
        )
        const expected = { skip: 'lost', repeat: 'doubled', swap: 'reordered', forget: 'lost' } as const
        expect(found).toEqual({ ...clean, [expected[kind]]: 1 })
      }),
    )
  })
})

describe('the pauses of the last migrations', () => {
  test('give no quantiles before the first, then those of what is kept', () => {
    const pauses = new Pauses(100)
    expect(pauses.quantiles()).toBeNull()
    pauses.add(7)
    expect(pauses.quantiles()).toEqual({ p50: 7, p99: 7 })
    for (let ms = 1; ms <= 100; ms++) pauses.add(ms)
    expect(pauses.quantiles()).toEqual({ p50: 50, p99: 99 })
  })
})
