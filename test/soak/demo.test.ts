import { expect, test } from 'vitest'
import { ask, complete, patience, startDemo, textOf } from '../support/demo-page.ts'

test('with --redis an answer survives SIGKILL of its gateway and its producer at once', async () => {
  const { page, numbers } = await startDemo('--redis')
  const { gateways, nodes } = await numbers(
    (line) => line.gateways.filter(({ state }) => state === 'up').length === 2,
  )
  const prompt = 'And about the boat'
  await ask(page, prompt)
  const producer = await textOf(page, '#producer')
  const here = gateways.find(({ state }) => state === 'up')!
  process.kill(nodes.find(({ id }) => id === producer)!.pid, 'SIGKILL')
  process.kill(here.pid, 'SIGKILL')
  // The balancer may not have heard of it yet.
  await expect
    .poll(
      () =>
        page.reload().then(
          () => true,
          () => false,
        ),
      patience,
    )
    .toBe(true)
  await complete(page, prompt)
})
