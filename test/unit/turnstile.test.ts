import { expect, test } from 'vitest'
import { Turnstile } from '../../src/edge/turnstile.ts'

test('the first of a turn goes in at once, the others in order, a turn each', async () => {
  let turn = 0
  const count = () => {
    turn++
    counting = setImmediate(count)
  }
  let counting = setImmediate(count)
  const turnstile = new Turnstile()
  const entered: [name: string, turn: number][] = []
  const enter = async (name: string) => {
    const wait = turnstile.enter()
    if (wait !== undefined) await wait
    entered.push([name, turn])
  }
  await Promise.all(['a', 'b', 'c', 'd'].map(enter))
  expect(entered).toEqual([
    ['a', 0],
    ['b', 1],
    ['c', 2],
    ['d', 3],
  ])
  await new Promise((resolve) => setImmediate(resolve))
  await new Promise((resolve) => setImmediate(resolve))
  const later = turn
  await enter('e')
  expect(entered.at(-1)).toEqual(['e', later])
  clearImmediate(counting)
})
