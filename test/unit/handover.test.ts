import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type HandoverEffect,
  type HandoverEvent,
  type HandoverPhase,
  handoverStep,
} from '../../src/core/session/handover.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('handover')

const events: readonly HandoverEvent[] = [
  'ready',
  'refused',
  'fin',
  'deadline',
  'source-lost',
  'source-refused',
  'target-lost',
  'session-closed',
  'cancelled',
]

type Row = [HandoverPhase, HandoverEvent, HandoverPhase | null, HandoverEffect[]]

/** PROTOCOL.md §1.8. null: the event means nothing in this phase. */
const rows: Row[] = [
  ['preparing', 'ready', 'quiescing', ['quiesce-source']],
  ['preparing', 'refused', 'stayed', []],
  ['preparing', 'fin', null, []],
  ['preparing', 'deadline', 'stayed', ['release-target']],
  ['preparing', 'source-lost', 'moved', ['activate-recovered']],
  ['preparing', 'source-refused', 'stayed', ['release-target']],
  ['preparing', 'target-lost', 'stayed', []],
  ['preparing', 'session-closed', 'stayed', ['release-target']],
  ['preparing', 'cancelled', 'stayed', ['release-target']],
  ['quiescing', 'ready', null, []],
  ['quiescing', 'refused', 'stayed', ['resume-source']],
  ['quiescing', 'fin', 'moved', ['activate', 'release-source']],
  ['quiescing', 'deadline', 'stayed', ['release-target', 'resume-source']],
  ['quiescing', 'source-lost', 'moved', ['activate-recovered']],
  ['quiescing', 'source-refused', 'stayed', ['release-target']],
  ['quiescing', 'target-lost', 'stayed', ['resume-source']],
  ['quiescing', 'session-closed', 'stayed', ['release-target', 'resume-source']],
  ['quiescing', 'cancelled', 'stayed', ['release-target', 'resume-source']],
  ...(['moved', 'stayed'] as const).flatMap((phase) => events.map((event): Row => [phase, event, null, []])),
]

test('the table below has every event in every phase', () => {
  expect(new Set(rows.map(([phase, event]) => `${phase} ${event}`)).size).toBe(4 * events.length)
})

test.each(rows)('%s, %s → %s', (phase, event, next, effects) => {
  expect(handoverStep(phase, event)).toEqual(next === null ? null : { phase: next, effects })
})

/** Both nodes and the session's assignment, as the effects of a whole hand-over leave them. */
class World {
  phase: HandoverPhase = 'preparing'
  readonly effects: HandoverEffect[] = []
  /** Until the gateway sends it anything else, the target keeps what it was asked to prepare. */
  target: 'prepared' | 'has it' | 'released' | 'gone' = 'prepared'
  source: 'has it' | 'finishing' | 'released' | 'gone' | 'never had it' = 'has it'

  on(event: HandoverEvent): void {
    const step = handoverStep(this.phase, event)
    if (step === null) return
    if (event === 'source-lost') this.source = 'gone'
    if (event === 'source-refused') this.source = 'never had it'
    if (event === 'target-lost' || event === 'refused') this.target = 'gone'
    this.phase = step.phase
    for (const effect of step.effects) this.apply(effect)
  }

  private apply(effect: HandoverEffect): void {
    this.effects.push(effect)
    if (effect === 'quiesce-source') this.expectThen('has it', () => (this.source = 'finishing'))
    else if (effect === 'resume-source') this.expectThen('finishing', () => (this.source = 'has it'))
    else if (effect === 'release-source') this.expectThen('finishing', () => (this.source = 'released'))
    else {
      expect(this.target, `${effect} needs a target that has prepared`).toBe('prepared')
      this.target = effect === 'release-target' ? 'released' : 'has it'
    }
  }

  private expectThen(source: World['source'], change: () => void): void {
    expect(this.source).toBe(source)
    change()
  }
}

describe('whatever happens in whatever order', () => {
  const walks = fc.array(fc.constantFrom(...events), { maxLength: 12 })
  const forAllWalks = (judge: (world: World) => void) => {
    const property = fc.property(walks, (walk) => {
      const world = new World()
      for (const event of walk) world.on(event)
      judge(world)
    })
    fc.assert(property, { seed, numRuns: 5_000 })
  }

  test('one node has the session in the end, or it is free for another one; none keeps a leftover', () => {
    forAllWalks(({ phase, source, target }) => {
      if (phase === 'moved') {
        expect(target).toBe('has it')
        expect(source).toMatch(/released|gone/)
      } else if (phase === 'stayed') {
        expect(source).toMatch(/^(has it|never had it)$/)
        expect(target).toMatch(/released|gone/)
      } else {
        expect(target).toBe('prepared')
        expect(source).toBe(phase === 'preparing' ? 'has it' : 'finishing')
      }
    })
  })

  test('out of quiescing it either activates or resumes, once, never both', () => {
    forAllWalks(({ phase, source, effects }) => {
      const activated = effects.filter((effect) => effect.startsWith('activate')).length
      const resumed = effects.filter((effect) => effect === 'resume-source').length
      const ended = phase === 'moved' || phase === 'stayed'
      expect(activated).toBe(phase === 'moved' ? 1 : 0)
      const isThere = source !== 'never had it'
      expect(resumed).toBe(phase === 'stayed' && isThere && effects.includes('quiesce-source') ? 1 : 0)
      expect(activated + resumed).toBeLessThanOrEqual(ended ? 1 : 0)
    })
  })

  test('the end is the end', () => {
    for (const phase of ['moved', 'stayed'] as const)
      for (const event of events) expect(handoverStep(phase, event)).toBeNull()
  })
})
