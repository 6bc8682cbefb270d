import { expect, test } from 'vitest'
import { moveStream } from '../support/event-feed.ts'
import { refusals, refuse } from '../support/upstream-refusals.ts'

test.each(Object.keys(refusals))('%s, 1,000 times', async (name) => {
  await refuse(name, 1_000)
  expect.hasAssertions()
})

test('a stream of events moves 1,000 times', async () => {
  await moveStream(1_000)
})
