import { expect, test } from 'vitest'
import { Turn } from '../../src/gateway/turn.ts'

/** Resolves when the event loop has turned so many times. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(setImmediate)
}

test('what is written is collected before, whatever was put off first', async () => {
  const turn = new Turn()
  const steps: string[] = []
  turn.write(() => steps.push('write'))
  turn.collect(() => steps.push('collect'))
  turn.collect(() => turn.write(() => steps.push('write what was collected')))
  await turns(1)
  expect(steps).toEqual(['collect', 'write', 'write what was collected'])
})

test('what can wait comes in the turn that follows, behind all that is written in it', async () => {
  const turn = new Turn()
  const steps: string[] = []
  turn.next(() => steps.push('next'))
  turn.write(() => steps.push('write'))
  await turns(1)
  expect(steps).toEqual(['write'])
  // Read in the turn that follows.
  turn.write(() => steps.push('write what came then'))
  turn.collect(() => steps.push('collect what came then'))
  await turns(1)
  expect(steps.slice(1)).toEqual(['collect what came then', 'write what came then', 'next'])
})

test('a step that puts off another one has a turn of its own', async () => {
  const turn = new Turn()
  let at = 0
  const steps: number[] = []
  const step = () => {
    steps.push(at)
    if (steps.length < 4) turn.next(step)
  }
  turn.next(step)
  for (; at < 6; at++) await turns(1)
  expect(steps).toEqual([1, 2, 3, 4])
})
