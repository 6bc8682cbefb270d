import { PerformanceObserver } from 'node:perf_hooks'
import { getHeapSpaceStatistics, getHeapStatistics, setFlagsFromString } from 'node:v8'

const MiB = 1024 * 1024
/**
 * V8 lets the young generation grow to 64 MiB, more than 10,000 idle connections take. 16 MiB measured the same CPU time per
 * message; 1 MiB cost a third more with 1,000 busy connections. The bound can only be set at the start of the process, but how
 * fast the young generation grows can be set at any time: not at all, once it is large enough.
 */
const youngBytes = 16 * MiB
/**
 * V8 collects all of a small heap whenever a few MiB have come to it, and what passes through buffers counts: messages of 40 MiB a
 * second cost five collections a second, each with a pause of up to 10 ms. It may have so much more, in parts of what is in use.
 */
const roomBytes = 96 * MiB
const roomPercent = { least: 50, most: 200 }

/** Bounds how the heap of this process grows, for a process that holds little and passes much on. */
export function shapeHeap(): void {
  let set = ''
  const shape = () => {
    const young = getHeapSpaceStatistics().find((space) => space.space_name === 'new_space')?.space_size ?? 0
    const tens = Math.round((10 * roomBytes) / getHeapStatistics().used_heap_size)
    const percent = Math.min(roomPercent.most, Math.max(roomPercent.least, tens * 10))
    const flags = `--semi-space-growth-factor=${young < youngBytes ? 2 : 1} --heap-growing-percent=${percent}`
    if (flags === set) return
    set = flags
    for (const flag of flags.split(' ')) setFlagsFromString(flag)
  }
  shape()
  new PerformanceObserver(shape).observe({ entryTypes: ['gc'] })
}
