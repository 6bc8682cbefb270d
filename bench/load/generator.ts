import { setTimeout as sleep } from 'node:timers/promises'
import { cpuNsOf } from '../measure/cpu.ts'
import type {
  ClosedLoopOptions,
  Commands,
  DeliveryResult,
  LoadResult,
  OpenLoopOptions,
  OpenOptions,
  OpenResult,
  StallResult,
  StreamsOptions,
  SubscribeOptions,
  Watch,
  Window,
} from './commands.ts'
import { Pacer } from './pacer.ts'
import { StalledClient } from './stalled-client.ts'
import { Subscribers } from './subscribers.ts'
import { nowUs, Swarm } from './swarm.ts'
import { firstTokens, resumes, TokenStreams } from './token-streams.ts'

/** Carries out the commands of `commands.ts` inside the load process. */
export class Generator {
  #swarm: Swarm | null = null
  #subscribers: Subscribers | null = null
  #streams: TokenStreams | null = null
  #stalled: StalledClient | null = null
  #background: { pacer: Pacer; startedAt: number } | null = null

  async open(options: OpenOptions): Promise<OpenResult> {
    this.#swarm?.discard()
    this.#swarm = new Swarm(options.payloadBytes, options.dialect)
    return this.#swarm.open(options)
  }

  async closedLoop(options: ClosedLoopOptions): Promise<LoadResult> {
    const swarm = this.#current()
    swarm.replying = true
    for (const connection of swarm.connections) swarm.send(connection, options.outstanding, nowUs())
    return measure(swarm, options, async () => {
      swarm.replying = false
    })
  }

  async openLoop(options: OpenLoopOptions): Promise<LoadResult> {
    const swarm = this.#current()
    const pacer = startPacer(swarm, options.rate)
    return measure(swarm, options, () => pacer.stop())
  }

  async startOpenLoop({ rate }: { rate: number }): Promise<null> {
    const swarm = this.#current()
    swarm.beginWindow()
    this.#background = { pacer: startPacer(swarm, rate), startedAt: performance.now() }
    return null
  }

  async stopOpenLoop(): Promise<LoadResult> {
    const swarm = this.#current()
    if (this.#background === null) throw new Error('no open loop is running')
    const { pacer, startedAt } = this.#background
    this.#background = null
    await pacer.stop()
    const seconds = (performance.now() - startedAt) / 1000
    const errors = await swarm.settle()
    const { notes, echoes } = swarm
    return {
      messages: echoes,
      seconds,
      errors,
      notes,
      latencyUs: swarm.latency.summary(),
      cpuNs: {},
      generatorCpuNs: 0,
    }
  }

  async stall({ port, path, request }: { port: number; path: string; request: string }): Promise<null> {
    this.#stalled = new StalledClient({ port, path }, request)
    return null
  }

  async unstall({ forMs }: { forMs: number }): Promise<StallResult> {
    if (this.#stalled === null) throw new Error('no client is stalled')
    return this.#stalled.finish(forMs)
  }

  async subscribe(options: SubscribeOptions): Promise<OpenResult> {
    this.#subscribers?.discard()
    this.#subscribers = new Subscribers(options.dialect)
    return this.#subscribers.open(options)
  }

  async lacking({ sequence, timeoutMs }: { sequence: number; timeoutMs: number }): Promise<number> {
    return this.#listening().lacking(sequence, timeoutMs)
  }

  async beginDeliveries(): Promise<null> {
    this.#listening().beginWindow()
    return null
  }

  async endDeliveries(): Promise<DeliveryResult> {
    return this.#listening().endWindow()
  }

  async stream(options: StreamsOptions): Promise<OpenResult> {
    this.#streams?.discard()
    this.#streams = new TokenStreams()
    return this.#streams.open(options)
  }

  async tokens({ warmMs, windowMs, watch }: Window): Promise<Commands['tokens']['output']> {
    if (this.#streams === null) throw new Error('open streams first')
    await sleep(warmMs)
    const cpuBefore = cpuOf(watch)
    this.#streams.beginWindow()
    await sleep(windowMs)
    const result = this.#streams.endWindow()
    return { ...result, cpuNs: difference(cpuBefore, cpuOf(watch)) }
  }

  firstTokens(options: Commands['firstTokens']['input']): Promise<Commands['firstTokens']['output']> {
    return firstTokens(options)
  }

  resumes(options: Commands['resumes']['input']): Promise<Commands['resumes']['output']> {
    return resumes(options)
  }

  async close(): Promise<null> {
    this.#swarm?.discard()
    this.#subscribers?.discard()
    this.#streams?.discard()
    this.#swarm = null
    this.#subscribers = null
    this.#streams = null
    return null
  }

  #listening(): Subscribers {
    if (this.#subscribers === null) throw new Error('subscribe first')
    return this.#subscribers
  }

  #current(): Swarm {
    if (this.#swarm === null) throw new Error('open connections first')
    return this.#swarm
  }
}

function startPacer(swarm: Swarm, rate: number): Pacer {
  let turn = 0
  return new Pacer(rate, () => {
    const connection = swarm.connections[turn++ % swarm.connections.length]
    if (connection !== undefined) swarm.send(connection, 1, nowUs())
  })
}

/**
 * The load process reads the CPU time of the others itself, so that it covers exactly the window in which
 * it counts messages.
 */
async function measure(swarm: Swarm, window: Window, stop: () => Promise<void>): Promise<LoadResult> {
  await sleep(window.warmMs)
  const cpuBefore = cpuOf(window.watch)
  const ownBefore = process.cpuUsage()
  const begin = performance.now()
  swarm.beginWindow()
  await sleep(window.windowMs)
  const messages = swarm.endWindow()
  const seconds = (performance.now() - begin) / 1000
  const own = process.cpuUsage(ownBefore)
  const cpuAfter = cpuOf(window.watch)
  await stop()
  const errors = await swarm.settle()
  const cpuNs = difference(cpuBefore, cpuAfter)
  const latencyUs = swarm.latency.summary()
  return {
    messages,
    seconds,
    errors,
    notes: swarm.notes,
    latencyUs,
    cpuNs,
    generatorCpuNs: (own.user + own.system) * 1000,
  }
}

function difference(before: Record<string, number>, after: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(after).map(([name, value]) => [name, value - (before[name] ?? 0)]))
}

function cpuOf(watch: Watch): Record<string, number> {
  return Object.fromEntries(Object.entries(watch).map(([name, pids]) => [name, cpuNsOf(pids)]))
}
