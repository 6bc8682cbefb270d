import { type Child, kill, orExit, startChild } from './processes.ts'

/** What a process does when it is asked. Arguments and results travel as JSON. */
export type CallActions = Record<string, (...args: never[]) => unknown>

interface Call {
  id: number
  action: string
  args: unknown[]
}

interface Answer {
  id: number
  result?: unknown
  error?: string
}

/** A process of the test that answers calls (`answerCalls`). */
export class CallableProcess<Actions extends CallActions> implements AsyncDisposable {
  readonly child: Child
  private readonly calls = new Map<number, (answer: Answer) => void>()
  private lastId = 0

  constructor(name: string, script: string) {
    this.child = startChild({ name, script, args: [], ipc: true })
    this.child.process.on('message', (answer: Answer) => {
      this.calls.get(answer.id)?.(answer)
      this.calls.delete(answer.id)
    })
  }

  call<Action extends keyof Actions & string>(
    action: Action,
    ...args: Parameters<Actions[Action]>
  ): Promise<Awaited<ReturnType<Actions[Action]>>> {
    const id = ++this.lastId
    const answered = new Promise<Awaited<ReturnType<Actions[Action]>>>((resolve, reject) => {
      this.calls.set(id, ({ result, error }) => {
        if (error === undefined) resolve(result as Awaited<ReturnType<Actions[Action]>>)
        else reject(new Error(`${this.child.name}: ${action}: ${error}`))
      })
    })
    this.child.process.send({ id, action, args } satisfies Call)
    return orExit(this.child, answered)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await kill(this.child)
  }
}

/** For the process that is called. */
export function answerCalls(actions: CallActions): void {
  process.on('message', async ({ id, action, args }: Call) => {
    const answer: Answer = { id }
    try {
      answer.result = await actions[action]!(...(args as never[]))
    } catch (error) {
      answer.error = String((error as Error).stack)
    }
    process.send!(answer)
  })
}
