import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { KeptOutputs } from '../../src/core/session/kept-outputs.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('kept-outputs')

/** What the outputs of a session are, told by a list of all that it ever made. */
class Model {
  readonly base: number
  last: number
  acked = 0
  /** TAIL as it came; each is the next of the one before. */
  tail: number[] = []

  constructor(base: number) {
    this.base = base
    this.last = base
  }

  /** Those that can be written again, if any can. */
  get present(): number[] {
    const own = range(this.base + 1, this.last)
    const tail = this.tail.at(-1) === this.base ? this.tail : []
    return [...tail, ...own].filter((seq) => seq > this.acked)
  }

  get bytes(): number {
    const all = [...this.tail, ...range(this.base + 1, this.last)].filter((seq) => seq > this.acked)
    return all.reduce((sum, seq) => sum + sizeOf(seq), 0)
  }

  reaches(out: number): boolean {
    if (out > this.last) return false
    const wanted = range(out + 1, this.last)
    return wanted.every((seq) => this.present.includes(seq))
  }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i)
}

function sizeOf(seq: number): number {
  return 1 + (seq % 5)
}

type Step = { kind: 'append' } | { kind: 'tail' } | { kind: 'prune'; to: number }

const steps = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.constant<Step>({ kind: 'append' }) },
    { weight: 3, arbitrary: fc.constant<Step>({ kind: 'tail' }) },
    { weight: 2, arbitrary: fc.nat(30).map<Step>((to) => ({ kind: 'prune', to })) },
  ),
  { maxLength: 40 },
)

function take(step: Step, kept: KeptOutputs<string>, model: Model, firstTail: number): void {
  if (step.kind === 'append') {
    model.last++
    kept.append(model.last, `o${model.last}`, sizeOf(model.last))
  } else if (step.kind === 'tail') {
    const seq = firstTail + model.tail.length
    if (seq > model.base) return
    model.tail.push(seq)
    expect(kept.appendTail(seq, `o${seq}`, sizeOf(seq))).toBe(seq > model.acked)
  } else {
    const before = model.bytes
    model.acked = Math.max(model.acked, Math.min(step.to, model.last))
    expect(kept.prune(step.to)).toBe(before - model.bytes)
  }
}

test('whatever is made, handed in and acknowledged in whatever order, it has what the session needs again', () => {
  fc.assert(
    fc.property(fc.nat(8), fc.nat(8), steps, (base, tails, list) => {
      const kept = new KeptOutputs<string>(base)
      const model = new Model(base)
      for (const step of list) {
        take(step, kept, model, Math.max(1, base + 1 - tails))
        expect(kept.bytes).toBe(model.bytes)
        for (let out = 0; out <= model.last + 2; out++) {
          expect([out, kept.reaches(out)]).toEqual([out, model.reaches(out)])
          if (!kept.reaches(out)) continue
          const expected = range(out + 1, model.last)
          expect(kept.behind(out)).toEqual(
            expected.map((seq) => ({ seq, data: `o${seq}`, bytes: sizeOf(seq) })),
          )
        }
      }
    }),
    { seed, numRuns: 300 },
  )
})

describe('TAIL', () => {
  test('is of no use before its last record, and joins what was made meanwhile with it', () => {
    const kept = new KeptOutputs<string>(3)
    kept.append(4, 'o4', 2)
    kept.appendTail(2, 'o2', 2)
    expect([kept.reaches(1), kept.reaches(3), kept.bytes]).toEqual([false, true, 4])
    kept.appendTail(3, 'o3', 2)
    expect([kept.reaches(0), kept.reaches(1), kept.bytes]).toEqual([false, true, 6])
    expect(kept.behind(1).map(({ data }) => data)).toEqual(['o2', 'o3', 'o4'])
  })

  test.each([
    ['with a gap', [1, 3]],
    ['twice', [1, 1]],
    ['backwards', [2, 1]],
    ['beyond what was made before', [4]],
    ['again when it was whole', [1, 2, 3, 3]],
    ['from the start when it was whole', [2, 3, 1]],
  ])('%s: the last one is not taken', (_what, seqs) => {
    const kept = new KeptOutputs<string>(3)
    const taken = seqs.map((seq) => kept.appendTail(seq, '', 1))
    expect(taken).toEqual(seqs.map((_seq, i) => i < seqs.length - 1))
    expect(kept.bytes).toBe(seqs.length - 1)
  })
})
