import { expect, test } from 'vitest'
import { reloadSummary, runReloads } from '../support/reload-load.ts'

test('5 reloads under 20 sessions of each kind: none is closed, and messages keep their order', async () => {
  const figures = await runReloads({ perKind: 20, reloads: 5, everyMs: 60, paceMs: 30 })
  console.log(reloadSummary(figures))
  expect(figures).toMatchObject({ sessions: 100, applied: 5, refused: 1, faults: [], gone: 0 })
})
