import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { CommandFailed } from '../errors.ts'
import type { Order, ReadyReport, Report } from './messages.ts'

/** `.ts` when run from the sources, `.js` when built. */
const program = new URL(`./worker${import.meta.url.slice(-3)}`, import.meta.url)

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** One worker as its parent sees it. Its output goes where the parent's goes. */
export class WorkerProcess {
  /** Rejects with CommandFailed, in the worker's words, when it ends before it serves. */
  readonly ready: Promise<ReadyReport>
  readonly exited: Promise<Exit>
  private readonly child: ChildProcess

  constructor(start: Extract<Order, { type: 'start' }>) {
    this.child = fork(fileURLToPath(program), [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    const { promise, resolve, reject } = Promise.withResolvers<ReadyReport>()
    this.ready = promise
    this.child.on('message', (report: Report) => {
      if (report.type === 'ready') resolve(report)
      else reject(new CommandFailed(report.message))
    })
    this.exited = new Promise((ended) => {
      this.child.on('error', (error) => {
        reject(new CommandFailed(`Cannot start a worker: ${error.message}.`, { cause: error }))
        if (this.child.pid === undefined) ended({ code: null, signal: null })
      })
      this.child.once('exit', (code, signal) => {
        reject(new CommandFailed(`A worker ended before it was ready (${signal ?? `exit code ${code}`}).`))
        ended({ code, signal })
      })
    })
    this.order(start)
  }

  get pid(): number | undefined {
    return this.child.pid
  }

  get running(): boolean {
    return this.child.pid !== undefined && this.child.exitCode === null && this.child.signalCode === null
  }

  /** Its clients leave, then it ends. */
  leave(): void {
    this.order({ type: 'leave' })
  }

  kill(): void {
    this.child.kill('SIGKILL')
  }

  private order(order: Order): void {
    // One that has just ended cannot hear it, and need not.
    this.child.send(order, () => {})
  }
}
