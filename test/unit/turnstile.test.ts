import { expect, test } from 'vitest'
import { Turnstile } from '../../src/edge/turnstile.ts'

test('who comes goes in after the turn that follows, in order, a turn each', async () => {
  let turn = 0
  const count = () => {
    turn++
    counting = setImmediate(count)
  }
  let counting = setImmediate(count)
  const turnstile = new Turnstile()
  const entered: [name: string, turn: number][] = []
  const enter = async (name: string) => {
    await turnstile.enter()
    entered.push([name, turn])
  }
  await Promise.all(['a', 'b', 'c', 'd'].map(enter))
  expect(entered).toEqual([
    ['a', 2],
    ['b', 3],
    ['c', 4],
    ['d', 5],
  ])
  const later = turn
  await enter('e')
  expect(entered.at(-1)).toEqual(['e', later + 2])
  clearImmediate(counting)
})
