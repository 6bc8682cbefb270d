import { CallableProcess } from './resumable-calls.ts'
import type { Attempt } from './resumable-client.ts'
import {
  addCounts,
  type ResumableCrowdOptions,
  type ResumableVerdict,
  type RoomTruth,
} from './resumable-crowd.ts'
import type { ResumableCrowdActions } from './resumable-crowd-process.ts'

type Actions = ResumableCrowdActions

const noRooms: RoomTruth = { published: {}, lossesAt: [] }

/** One crowd in several processes. */
export class ResumableCrowds implements AsyncDisposable {
  private readonly processes: readonly CallableProcess<Actions>[]

  private constructor(processes: readonly CallableProcess<Actions>[]) {
    this.processes = processes
  }

  static async connect(
    options: Omit<ResumableCrowdOptions, 'name'>,
    processCount: number,
  ): Promise<ResumableCrowds> {
    const processes = Array.from(
      { length: processCount },
      (_, i) => new CallableProcess<Actions>(`crowd ${i + 1}`, 'test/support/resumable-crowd-process.ts'),
    )
    const crowds = new ResumableCrowds(processes)
    try {
      await Promise.all(
        processes.map((process, i) => process.call('connect', partOf(options, i, processCount))),
      )
      return crowds
    } catch (error) {
      await crowds[Symbol.asyncDispose]()
      throw error
    }
  }

  async startSending(): Promise<void> {
    await this.all((crowd) => crowd.call('startSending'))
  }

  /** So many messages from everyone, whose handlers take so long. */
  async sendAll(ms: number, count = 1): Promise<void> {
    await this.all((crowd) => crowd.call('sendAll', ms, count))
  }

  /** That many more messages are answered. */
  async answers(count: number): Promise<void> {
    const share = Math.ceil(count / this.processes.length)
    await this.all((crowd) => crowd.call('answers', share))
  }

  async answered(): Promise<number> {
    return (await this.all((crowd) => crowd.call('answered'))).reduce((sum, count) => sum + count, 0)
  }

  /** Everyone sends one more message and is answered over an open connection; after how many milliseconds. */
  async fence(timeoutMs = 60_000): Promise<number[]> {
    return (await this.all((crowd) => crowd.call('fence', timeoutMs))).flat()
  }

  /** What each client has tried since `from`, on the machine's clock. */
  async attempts(from: number): Promise<Attempt[][]> {
    return (await this.all((crowd) => crowd.call('attempts', from))).flat()
  }

  /** The longest time in which one of the processes did nothing, in milliseconds, since the last call. */
  async stallMs(): Promise<number> {
    return Math.max(...(await this.all((crowd) => crowd.call('stallMs'))))
  }

  /** Sends no more and waits for all answers. */
  async settle(): Promise<void> {
    await this.all((crowd) => crowd.call('settle'))
  }

  /** Everyone has these messages, or later ones, of its channels. */
  async roomsReach(numbers: Record<string, number>): Promise<void> {
    await this.all((crowd) => crowd.call('roomsReach', numbers))
  }

  /** Everyone has the last message of each of its channels. */
  async roomsEnd(published: RoomTruth['published']): Promise<void> {
    await this.all((crowd) => crowd.call('roomsEnd', published))
  }

  /** Ids of the clients' sessions. */
  async sessions(): Promise<string[]> {
    return (await this.all((crowd) => crowd.call('sessions'))).flat()
  }

  /** Ids of sessions that could not be resumed. */
  async lost(): Promise<string[]> {
    return (await this.all((crowd) => crowd.call('lost'))).flat()
  }

  async times(): Promise<{ answerMs: number[]; awayMs: number[] }> {
    const times = await this.all((crowd) => crowd.call('times'))
    return {
      answerMs: times.flatMap(({ answerMs }) => answerMs),
      awayMs: times.flatMap(({ awayMs }) => awayMs),
    }
  }

  async verdict(truth = noRooms): Promise<ResumableVerdict> {
    const verdicts = await this.all((crowd) => crowd.call('verdict', truth))
    return verdicts.reduce(sum)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.all((crowd) => crowd[Symbol.asyncDispose]())
  }

  private all<T>(act: (crowd: CallableProcess<Actions>) => Promise<T>): Promise<T[]> {
    return Promise.all(this.processes.map(act))
  }
}

function partOf(
  options: Omit<ResumableCrowdOptions, 'name'>,
  index: number,
  count: number,
): ResumableCrowdOptions {
  return {
    ...options,
    name: `${String.fromCharCode(97 + index)}`,
    clients: Math.floor((options.clients + index) / count),
    messagesPerSecond: options.messagesPerSecond / count,
    seed: options.seed + index * 100_003,
  }
}

/** Numbers are added, counts by name are added name by name, notes are put together. */
function sum(a: ResumableVerdict, b: ResumableVerdict): ResumableVerdict {
  const entries = Object.entries(a).map(([key, value]) => {
    const other = b[key as keyof ResumableVerdict]
    if (Array.isArray(value)) return [key, [...value, ...(other as string[])]]
    if (typeof value === 'number') return [key, value + (other as number)]
    const counts = { ...(value as Record<string, number>) }
    addCounts(counts, other as unknown as Record<string, number>)
    return [key, counts]
  })
  return Object.fromEntries(entries) as ResumableVerdict
}
