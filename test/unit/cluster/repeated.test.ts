import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Repeated } from '../../../src/cluster/repeated.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('requests that come together are one run, at the earliest time that was asked for', async () => {
  const runs: number[] = []
  const job = new Repeated(async () => void runs.push(performance.now()), 50)
  const begin = performance.now()
  job.within(2_000)
  job.soon()
  job.within(1_000)
  await vi.advanceTimersByTimeAsync(10_000)
  expect(runs.map((at) => at - begin)).toEqual([50])
})

test('it never runs twice at once; what was asked meanwhile follows', async () => {
  let running = 0
  let most = 0
  let runs = 0
  const job = new Repeated(async () => {
    runs++
    most = Math.max(most, ++running)
    await new Promise((resolve) => setTimeout(resolve, 500))
    running--
  }, 10)
  job.soon()
  await vi.advanceTimersByTimeAsync(100)
  job.soon()
  job.soon()
  await vi.advanceTimersByTimeAsync(5_000)
  expect([runs, most]).toEqual([2, 1])
})

test('a job may ask for its own next run', async () => {
  let runs = 0
  const job = new Repeated(async () => {
    runs++
    job.within(1_000)
  }, 0)
  job.soon()
  await vi.advanceTimersByTimeAsync(3_500)
  expect(runs).toBe(4)
  job.stop()
  await vi.advanceTimersByTimeAsync(3_500)
  expect(runs).toBe(4)
})

test('stopped while it runs, it does not run again', async () => {
  let runs = 0
  const job = new Repeated(async () => {
    runs++
    job.soon()
    await new Promise((resolve) => setTimeout(resolve, 500))
  }, 0)
  job.soon()
  await vi.advanceTimersByTimeAsync(100)
  job.stop()
  await vi.advanceTimersByTimeAsync(5_000)
  expect(runs).toBe(1)
})
