import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { GatewayConfig, GatewayTokens } from '../config-schema.ts'
import { CommandFailed } from '../errors.ts'
import { fromFailure } from './failure.ts'
import type { Order, ReadyReport, ReloadResult, Report } from './messages.ts'

/** `.ts` when run from the sources, `.js` when built. */
const program = new URL(`./worker${import.meta.url.slice(-3)}`, import.meta.url)

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface WorkerHandlers {
  /** An operator of the worker wants the configuration to be read again. */
  reload(dryRun: boolean): Promise<ReloadResult>
  routesChanged(routes: GatewayConfig['routes']): void
}

/** A worker that says nothing for so long is as one that cannot. */
const applyMs = 20_000

/** One worker as its parent sees it. Its output goes where the parent's goes. */
export class WorkerProcess {
  /** Rejects with CommandFailed, in the worker's words, when it ends before it serves. */
  readonly ready: Promise<ReadyReport>
  readonly exited: Promise<Exit>
  private readonly child: ChildProcess
  private readonly applying = new Map<number, PromiseWithResolvers<void>>()
  private lastId = 0

  constructor(start: Extract<Order, { type: 'start' }>, handlers: WorkerHandlers) {
    this.child = fork(fileURLToPath(program), [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    const { promise, resolve, reject } = Promise.withResolvers<ReadyReport>()
    this.ready = promise
    this.child.on('message', (report: Report) => {
      if (report.type === 'ready') resolve(report)
      else if (report.type === 'failed') reject(new CommandFailed(report.message))
      else if (report.type === 'routes') handlers.routesChanged(report.routes)
      else if (report.type === 'reload') {
        const { id, dryRun } = report
        void handlers.reload(dryRun).then((result) => this.order({ type: 'reloaded', id, result }))
      } else {
        const asked = this.applying.get(report.id)
        if (report.problem === null) asked?.resolve()
        else asked?.reject(fromFailure(report.problem))
      }
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

  /** The worker has this configuration from now on. Rejects when it cannot, or ends. */
  async apply(config: GatewayConfig, tokens: GatewayTokens): Promise<void> {
    const id = ++this.lastId
    const asked = Promise.withResolvers<void>()
    this.applying.set(id, asked)
    const timer = setTimeout(() => asked.reject(new CommandFailed('A worker does not answer.')), applyMs)
    this.order({ type: 'apply', id, config, tokens })
    try {
      // Who takes its place begins with what is new.
      await Promise.race([asked.promise, this.exited])
    } finally {
      clearTimeout(timer)
      this.applying.delete(id)
    }
  }

  order(order: Order): void {
    // One that has just ended cannot hear it, and need not.
    this.child.send(order, () => {})
  }

  /** Its clients leave, then it ends. */
  leave(): void {
    this.order({ type: 'leave' })
  }

  kill(): void {
    this.child.kill('SIGKILL')
  }
}
