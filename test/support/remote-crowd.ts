import type { CrowdOptions, CrowdVerdict } from './crowd.ts'
import { type Child, kill, orExit, startChild } from './processes.ts'

export interface CrowdCall {
  id: number
  action: 'connect' | 'startSending' | 'answers' | 'fence' | 'settle' | 'replace' | 'progress' | 'verdict'
  argument?: unknown
}

export interface CrowdAnswer {
  id: number
  result?: unknown
  error?: string
}

/** A crowd (see there) in another process. */
export class RemoteCrowd {
  private readonly child: Child
  private readonly calls = new Map<number, (answer: CrowdAnswer) => void>()
  private lastId = 0

  private constructor() {
    this.child = startChild({ name: 'crowd', script: 'test/support/crowd-process.ts', args: [], ipc: true })
    this.child.process.on('message', (answer: CrowdAnswer) => {
      this.calls.get(answer.id)?.(answer)
      this.calls.delete(answer.id)
    })
  }

  static async connect(options: CrowdOptions): Promise<RemoteCrowd> {
    const crowd = new RemoteCrowd()
    await crowd.call('connect', options)
    return crowd
  }

  startSending(): Promise<void> {
    return this.call('startSending')
  }

  answers(count: number): Promise<void> {
    return this.call('answers', count)
  }

  fence(): Promise<void> {
    return this.call('fence')
  }

  settle(): Promise<void> {
    return this.call('settle')
  }

  replace(sessions: readonly string[]): Promise<void> {
    return this.call('replace', sessions)
  }

  progress(): Promise<{ echoes: number; closed: number }> {
    return this.call('progress')
  }

  verdict(): Promise<CrowdVerdict> {
    return this.call('verdict')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await kill(this.child)
  }

  private call<T>(action: CrowdCall['action'], argument?: unknown): Promise<T> {
    const id = ++this.lastId
    const answered = new Promise<T>((resolve, reject) => {
      this.calls.set(id, ({ result, error }) =>
        error === undefined ? resolve(result as T) : reject(new Error(`crowd: ${action}: ${error}`)),
      )
    })
    this.child.process.send({ id, action, argument } satisfies CrowdCall)
    return orExit(this.child, answered)
  }
}
