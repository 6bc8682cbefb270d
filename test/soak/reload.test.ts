import { expect, test } from 'vitest'
import { reloadSummary, runReloads } from '../support/reload-load.ts'

test('100 reloads under 1,000 sessions: none is closed, and messages keep their order', async () => {
  const figures = await runReloads({ perKind: 200, reloads: 100, everyMs: 300, paceMs: 1_000 })
  console.log(reloadSummary(figures))
  expect(figures).toMatchObject({ sessions: 1_000, applied: 100, refused: 20, faults: [], gone: 0 })
})
