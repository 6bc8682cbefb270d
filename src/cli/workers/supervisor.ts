import { setTimeout as delay } from 'node:timers/promises'
import { backoffMs } from '../../core/backoff.ts'
import type { GatewayConfig, GatewayTokens } from '../config-schema.ts'
import { CommandFailed } from '../errors.ts'
import type { Logger } from '../logger.ts'
import type { ReloadNote } from '../running-config.ts'
import type { ReadyReport } from './messages.ts'
import { workerConfig } from './worker-config.ts'
import { type WorkerHandlers, WorkerProcess } from './worker-process.ts'

export interface ReadyWorker extends Omit<ReadyReport, 'type'> {
  readonly pid: number
}

export interface SupervisorOptions {
  config: GatewayConfig
  tokens: GatewayTokens
  /** Of the configuration. */
  file: string | null
  handlers: WorkerHandlers
  logger: Logger
}

/** A worker that served this long is no part of a series of crashes. */
const steadyMs = 10_000

/** Keeps the workers of one machine running: starts them, replaces those that end, stops them all. */
export class Supervisor {
  private readonly options: SupervisorOptions
  private readonly workers = new Map<number, WorkerProcess>()
  private readonly stopped = new AbortController()
  private publicPort: number
  /** What workers that start are given. */
  private present: { readonly config: GatewayConfig; readonly tokens: GatewayTokens }

  constructor(options: SupervisorOptions) {
    this.options = options
    this.publicPort = options.config.public.port
    this.present = { config: options.config, tokens: options.tokens }
  }

  /**
   * Resolves when all workers serve; null when they were stopped meanwhile. Throws CommandFailed when one cannot start, with
   * none left: what is wrong with the first start is wrong with the configuration or the machine.
   */
  async start(): Promise<ReadyWorker[] | null> {
    try {
      // The first one finds out whether the port can be had, and which one it is if any will do.
      const first = await this.add(1)
      this.publicPort = first.publicPort
      if (this.isStopping) return null
      const others = Array.from({ length: this.options.config.workers - 1 }, (_, i) => this.add(i + 2))
      const all = [first, ...(await Promise.all(others))]
      return this.isStopping ? null : all
    } catch (error) {
      if (this.isStopping) return null
      await this.stop().catch(() => {})
      throw error
    }
  }

  /** All workers leave; resolves when they have ended. Throws CommandFailed when one did not end well. */
  async stop(): Promise<void> {
    this.stopped.abort()
    const running = [...this.workers].filter(([, worker]) => worker.running)
    for (const [, worker] of running) worker.leave()
    const exits = await Promise.all(
      running.map(async ([index, { exited }]) => ({ index, ...(await exited) })),
    )
    const failed = exits.find(({ code }) => code !== 0)
    if (failed === undefined) return
    throw new CommandFailed(
      `worker ${failed.index} did not leave in order (${failed.signal ?? `exit code ${failed.code}`})`,
    )
  }

  /** All workers have this configuration from now on, or all keep the former one. Throws what the first one says that cannot. */
  async apply(config: GatewayConfig, tokens: GatewayTokens): Promise<void> {
    const former = this.present
    // Before the others: who starts meanwhile is to have it.
    this.present = { config, tokens }
    const results = await Promise.allSettled(this.applyToAll())
    const failed = results.find(({ status }) => status === 'rejected')
    if (failed?.status !== 'rejected') return
    this.present = former
    await Promise.allSettled(this.applyToAll())
    throw failed.reason
  }

  note(note: ReloadNote): void {
    for (const worker of this.workers.values()) worker.order({ type: 'note', note })
  }

  routesChanged(routes: GatewayConfig['routes']): void {
    this.present = { ...this.present, config: { ...this.present.config, routes } }
  }

  private applyToAll(): Promise<void>[] {
    const { config, tokens } = this.present
    return [...this.workers]
      .filter(([, worker]) => worker.running)
      .map(([index, worker]) => worker.apply(workerConfig(config, index, this.publicPort), tokens))
  }

  kill(): void {
    for (const worker of this.workers.values()) worker.kill()
  }

  private get isStopping(): boolean {
    return this.stopped.signal.aborted
  }

  private async add(index: number): Promise<ReadyWorker> {
    const worker = this.launch(index)
    const { type: _, ...ready } = await worker.ready
    void this.keep(index, worker)
    return { ...ready, pid: worker.pid! }
  }

  private launch(index: number): WorkerProcess {
    const { config, tokens } = this.present
    const { file, handlers } = this.options
    const start = {
      type: 'start',
      config: workerConfig(config, index, this.publicPort),
      tokens,
      file,
    } as const
    const worker = new WorkerProcess(start, handlers)
    this.workers.set(index, worker)
    return worker
  }

  /** Puts another worker in the place of each one that ends, until all are stopped. */
  private async keep(index: number, first: WorkerProcess): Promise<void> {
    const { logger } = this.options
    let worker = first
    let readyAt = performance.now()
    for (let attempt = 0; ; attempt++) {
      const exit = await worker.exited
      if (this.isStopping) return
      if (performance.now() - readyAt >= steadyMs) attempt = 0
      const retryMs = Math.round(backoffMs(attempt, Math.random))
      logger.warn({ worker: index, pid: worker.pid, ...exit, retryMs }, 'a worker ended; another one follows')
      await delay(retryMs, undefined, this.stopped).catch(() => {})
      if (this.isStopping) return
      worker = this.launch(index)
      readyAt = await worker.ready.then(
        () => performance.now(),
        (error: Error) => {
          logger.warn({ worker: index }, error.message)
          return Number.POSITIVE_INFINITY
        },
      )
    }
  }
}
