import { expect, test } from 'vitest'
import { Search, type SearchAnswer } from '../../src/core/session/search.ts'

const waits = { answersMs: 1_000, unlinkedMs: 5_000 }
const unknown: SearchAnswer = { term: 0, live: false, reason: 'unknown' }
const wrongToken: SearchAnswer = { term: 0, live: false, reason: 'token' }
const live = (term: number): SearchAnswer => ({ term, live: true, reason: null })
const prepared = (term: number): SearchAnswer => ({ term, live: false, reason: null })

interface Case {
  title: string
  /** null: no answer. */
  answers: Record<string, SearchAnswer | null>
  atMs?: number
  unlinked?: boolean
  result: ReturnType<Search<string>['result']>
}

const cases: Case[] = [
  {
    title: 'the only holder has it',
    answers: { a: unknown, b: live(3) },
    result: { found: 'b', term: 4, drop: [] },
  },
  {
    title: 'the highest live term wins, the others are dropped',
    answers: { a: live(3), b: live(5), c: live(4), d: unknown },
    result: { found: 'b', term: 6, drop: ['a', 'c'] },
  },
  {
    title: 'a prepared session wins nothing, but its term is used up',
    answers: { a: live(3), b: prepared(9) },
    result: { found: 'a', term: 10, drop: ['b'] },
  },
  {
    title: 'an answer is awaited: it may hold a higher term',
    answers: { a: live(3), b: null },
    result: null,
  },
  {
    title: 'but not for ever',
    answers: { a: live(3), b: null },
    atMs: 1_000,
    result: { found: 'a', term: 4, drop: [] },
  },
  {
    title: 'nobody has it',
    answers: { a: unknown, b: unknown },
    result: { found: null, reason: 'unknown' },
  },
  {
    title: 'only prepared somewhere is nowhere',
    answers: { a: prepared(2) },
    result: { found: null, reason: 'unknown' },
  },
  {
    title: 'somebody knows it by another token',
    answers: { a: unknown, b: wrongToken },
    result: { found: null, reason: 'token' },
  },
  { title: 'nobody is linked yet', answers: {}, unlinked: true, atMs: 4_999, result: null },
  {
    title: 'nobody was linked in time',
    answers: {},
    unlinked: true,
    atMs: 5_000,
    result: { found: null, reason: 'unknown' },
  },
  { title: 'a node that is not linked may have it', answers: { a: unknown }, unlinked: true, result: null },
  {
    title: 'a live session is taken although another node is not linked',
    answers: { a: live(1) },
    unlinked: true,
    result: { found: 'a', term: 2, drop: [] },
  },
]

test.each(cases)('$title', ({ answers, atMs = 0, unlinked = false, result }) => {
  const search = new Search<string>(100, waits)
  for (const node of Object.keys(answers)) search.ask(node)
  for (const [node, answer] of Object.entries(answers)) if (answer !== null) search.answer(node, answer)
  expect(search.result(100 + atMs, unlinked)).toEqual(result)
})

test('a node that is lost is not waited for, and what it said is worth nothing', () => {
  const search = new Search<string>(0, waits)
  for (const node of ['a', 'b']) search.ask(node)
  search.answer('a', live(7))
  search.lost('a')
  expect(search.result(0, false)).toBeNull()
  search.lost('b')
  expect(search.result(0, false)).toEqual({ found: null, reason: 'unknown' })
  search.answer('a', live(7))
  expect(search.result(0, false)).toEqual({ found: null, reason: 'unknown' })
})
