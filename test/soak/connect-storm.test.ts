import { test } from 'vitest'
import { connectStorm } from '../support/connect-storm.ts'

test('2,000 clients that come at once get in one after the other', { timeout: 120_000 }, async () => {
  await connectStorm({ clients: 2_000, perSecond: 500, burst: 500 })
})
