/** A crowd in a process of its own, so that its load does not slow down what the test itself does. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { answerCalls } from './resumable-calls.ts'
import { ResumableCrowd, type ResumableCrowdOptions, type RoomTruth } from './resumable-crowd.ts'

const stalls = monitorEventLoopDelay({ resolution: 5 })
stalls.enable()
let crowd: ResumableCrowd | null = null

const actions = {
  async connect(options: ResumableCrowdOptions): Promise<void> {
    crowd = await ResumableCrowd.connect(options)
  },
  startSending: () => crowd!.startSending(),
  /** So many messages from everyone, whose handlers take so long. */
  sendAll: (ms: number, count: number) => {
    for (let i = 0; i < count; i++) for (const client of crowd!.clients) client.send({ ms })
  },
  answers: (count: number) => crowd!.answers(count),
  fence: (timeoutMs: number) => crowd!.fence(timeoutMs),
  attempts: (from: number) => crowd!.attempts(from),
  /** The longest time in which this process did nothing, in milliseconds, since the last call. */
  stallMs: () => {
    const longest = stalls.max / 1e6
    stalls.reset()
    return longest
  },
  settle: () => crowd!.settle(),
  roomsReach: (numbers: Record<string, number>) => crowd!.roomsReach(numbers),
  roomsEnd: (published: RoomTruth['published']) => crowd!.roomsEnd(published),
  sessions: () => crowd!.clients.map(({ session }) => session),
  answered: () => crowd!.answered,
  lost: () => crowd!.clients.flatMap(({ lost }) => lost.map(({ session }) => session)),
  times: () => crowd!.times(),
  verdict: (truth: RoomTruth) => crowd!.verdict(truth),
}

export type ResumableCrowdActions = typeof actions

answerCalls(actions)
