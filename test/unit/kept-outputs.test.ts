import fc from 'fast-check'
import { expect, test } from 'vitest'
import { KeptOutputs } from '../../src/core/session/kept-outputs.ts'
import { testSeed } from '../support/random.ts'

const seed = testSeed('kept-outputs')

test('what is kept is what was appended and not acknowledged, and its size is known', () => {
  const step = fc.oneof(
    fc.record({ append: fc.nat(30) }),
    // Below what was acknowledged and beyond what was made, too.
    fc.record({ acked: fc.nat(40) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const kept = new KeptOutputs()
      let model: { seq: number; bytes: number }[] = []
      let last = 0
      for (const one of steps) {
        if ('append' in one) {
          kept.append({ seq: ++last, payload: Buffer.alloc(one.append), text: true })
          model.push({ seq: last, bytes: one.append })
        } else {
          const freed = model.filter(({ seq }) => seq <= one.acked).reduce((sum, { bytes }) => sum + bytes, 0)
          expect(kept.prune(one.acked)).toBe(freed)
          model = model.filter(({ seq }) => seq > one.acked)
        }
        expect(kept.all().map(({ seq }) => seq)).toEqual(model.map(({ seq }) => seq))
        expect(kept.bytes).toBe(model.reduce((sum, { bytes }) => sum + bytes, 0))
      }
    }),
    { seed },
  )
})
