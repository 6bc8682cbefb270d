import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Child, kill, orExit, startChild } from './processes.ts'
import { createRandom, type Random } from './random.ts'
import { RedisServer } from './redis.ts'
import { RunFollower } from './run-follower.ts'
import { storyPolicies, storyText } from './run-story.ts'

export const runFaults = [
  'producer killed',
  'producer stopped',
  'gateway killed',
  'gateway stopped',
  'Redis killed',
  'Redis stopped',
] as const
export type RunFault = (typeof runFaults)[number]

export interface RunChaosOptions {
  seed: number
  /** Runs at any time. */
  runs: number
  gateways: number
  producers: number
  /** Of one run, at most. */
  tokensMost: number
  pauseMs: number
  /** Each of these once, in random order, and then any, until the time is over. */
  seconds: number
  faults: readonly RunFault[]
  /** Between faults, which may overlap. */
  calmMsMost: number
  /** Default `always`; with `everysec` a killed Redis may lose the last 2 s. */
  appendfsync?: 'always' | 'everysec'
  /** For so long something is stopped, at most. */
  awayMsMost: number
}

export interface RunChaosReport {
  runs: number
  complete: number
  /** Ended with `fail`, by policy. */
  failed: Record<string, number>
  /** What should not be. */
  wrong: string[]
  faults: Record<string, number>
  connections: number
  /** Restarts and continuations that readers saw. */
  fences: number
  tokens: number
  /** What gateways and queues still hold in the end. */
  left: { owned: number; live: number; jobs: number }
}

const settleMs = 90_000
const limits = {
  heartbeatMs: 400,
  suspectMs: 800,
  downMs: 1_600,
  leaseMs: 2_000,
  leaseRefreshMs: 500,
  runLeaseMs: 2_000,
  runLeaseRefreshMs: 400,
  runHeartbeatMs: 1_000,
  runQueueDepth: 100_000,
  runQueueAgeMs: 600_000,
  runQueueMs: 120_000,
  runLossesMost: 100,
}

interface GatewayChild {
  child: Child
  port: number
  stopped: boolean
}

/** Gateways, producers and a Redis that keeps what it has acknowledged, all in processes of their own, and what befalls them. */
export class RunChaos implements AsyncDisposable {
  readonly done: Record<string, number> = {}
  readonly followers: RunFollower[] = []
  private readonly options: RunChaosOptions
  private readonly random: Random
  private readonly directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-runs-'))
  private readonly gateways = new Set<GatewayChild>()
  private readonly producers = new Set<{ child: Child; stopped: boolean }>()
  private readonly children: Child[] = []
  private readonly resuming = new Set<Promise<void>>()
  private readonly aborter = new AbortController()
  private redis!: RedisServer
  private started = 0

  private constructor(options: RunChaosOptions) {
    this.options = options
    this.random = createRandom(options.seed)
    writeFileSync(path.join(this.directory, 'gateway.json'), JSON.stringify({ limits }))
  }

  static async start(options: RunChaosOptions): Promise<RunChaos> {
    const chaos = new RunChaos(options)
    chaos.redis = await RedisServer.start([
      '--appendonly',
      'yes',
      '--appendfsync',
      options.appendfsync ?? 'always',
    ])
    try {
      await Promise.all(Array.from({ length: options.gateways }, () => chaos.addGateway()))
      await Promise.all(Array.from({ length: options.producers }, () => chaos.addProducer()))
      return chaos
    } catch (error) {
      await chaos[Symbol.asyncDispose]()
      throw error
    }
  }

  async run(): Promise<RunChaosReport> {
    const { seconds, runs, faults } = this.options
    const until = performance.now() + seconds * 1000
    const wanted = this.random.sample(faults, faults.length)
    let faulting = true
    const loads = Array.from({ length: runs }, (_, i) => this.keepOneGoing(i, () => faulting))
    while (wanted.length > 0 || performance.now() < until) {
      await delay(this.random.int(50, this.options.calmMsMost))
      const fault = wanted.shift() ?? this.random.pick(faults)
      await this.perform(fault)
      this.done[fault] = (this.done[fault] ?? 0) + 1
    }
    faulting = false
    await Promise.all(this.resuming)
    const timer = setTimeout(() => this.aborter.abort(), settleMs)
    await Promise.all(loads)
    clearTimeout(timer)
    return await this.report()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.aborter.abort()
    for (const child of this.children) child.process.kill('SIGCONT')
    await Promise.all(this.children.map((child) => kill(child)))
    await this.redis?.stop()
    rmSync(this.directory, { recursive: true })
  }

  /** One run after the other. */
  private async keepOneGoing(slot: number, goesOn: () => boolean): Promise<void> {
    const { random } = this
    do {
      const number = this.started++
      const manner = random.chance(0.15) ? 'slow' : random.chance(0.1) ? 'dead' : 'eager'
      const policy = storyPolicies[slot % storyPolicies.length]!
      const story = {
        seed: random.int(1, 2 ** 30),
        tokens: random.int(1, this.options.tokensMost),
        pauseMs: random.chance(0.1) ? 0 : this.options.pauseMs,
      }
      const follower = new RunFollower(policy, story, `key-${number}`, {
        ports: () => [...this.gateways].map(({ port }) => port),
        random,
        manner,
        silenceMs: 3_000,
      })
      this.followers.push(follower)
      await follower.follow(this.aborter.signal)
    } while (goesOn() && !this.aborter.signal.aborted)
  }

  private async perform(fault: RunFault): Promise<void> {
    const { random } = this
    const awayMs = random.int(100, this.options.awayMsMost)
    if (fault === 'producer killed') {
      const producer = random.pick([...this.producers])
      this.producers.delete(producer)
      await kill(producer.child)
      await this.addProducer()
    } else if (fault === 'gateway killed') {
      const gateway = random.pick([...this.gateways])
      this.gateways.delete(gateway)
      await kill(gateway.child)
      await this.addGateway()
    } else if (fault === 'producer stopped') this.stop(random.pick([...this.producers]), awayMs)
    else if (fault === 'gateway stopped') this.stop(random.pick([...this.gateways]), awayMs)
    else if (fault === 'Redis killed') {
      await this.redis.kill()
      await delay(random.int(0, 1_500))
      await this.redis.restart()
    } else {
      this.redis.pause()
      await delay(Math.min(awayMs, 2_500))
      this.redis.resume()
    }
  }

  private stop(subject: { child: Child; stopped: boolean }, awayMs: number): void {
    if (subject.stopped) return
    subject.stopped = true
    subject.child.process.kill('SIGSTOP')
    const back = delay(awayMs).then(() => {
      subject.child.process.kill('SIGCONT')
      subject.stopped = false
      this.resuming.delete(back)
    })
    this.resuming.add(back)
  }

  private async addGateway(): Promise<void> {
    const child = startChild({
      name: 'gateway',
      script: 'test/support/run-gateway-process.ts',
      args: [`g${this.children.length}`, path.join(this.directory, 'gateway.json'), this.redis.url],
      ipc: true,
    })
    this.children.push(child)
    const ready = new Promise<{ port: number }>((resolve) =>
      child.process.once('message', (ports) => resolve(ports as { port: number })),
    )
    const { port } = await orExit(child, ready)
    this.gateways.add({ child, port, stopped: false })
  }

  private async addProducer(): Promise<void> {
    const child = startChild({
      name: 'producer',
      script: 'test/support/run-producer-process.ts',
      args: [`--id=p${this.children.length}`, `--redis=${this.redis.url}`],
      ipc: true,
    })
    this.children.push(child)
    await orExit(child, new Promise<void>((resolve) => child.process.once('message', () => resolve())))
    this.producers.add({ child, stopped: false })
  }

  private async report(): Promise<RunChaosReport> {
    const wrong: string[] = []
    const failed: Record<string, number> = {}
    let complete = 0
    for (const follower of this.followers) {
      const problem = judge(follower)
      if (problem !== null) wrong.push(`${follower.policy} ${follower.run}: ${problem}`)
      if (follower.terminal?.type === 'end') complete++
      else if (follower.terminal?.type === 'fail')
        failed[follower.policy] = (failed[follower.policy] ?? 0) + 1
    }
    const died = [...this.gateways, ...this.producers].filter(({ child }) => !child.running)
    for (const { child } of died) wrong.push(`${child.name} has ended:\n${child.log()}`)
    // What they read again is the same: nobody has changed anything behind the end.
    for (const follower of this.random.sample(this.followers, 100)) {
      if (follower.terminal === null) continue
      const again = await follower.again()
      if (again.text !== follower.text || again.terminal?.type !== follower.terminal.type)
        wrong.push(`${follower.policy} ${follower.run}: read again, it is another text`)
    }
    const events = this.followers.flatMap((follower) => follower.events)
    return {
      runs: this.followers.length,
      complete,
      failed,
      wrong,
      faults: this.done,
      connections: this.followers.reduce((sum, { connections }) => sum + connections, 0),
      fences: events.filter(({ type }) => type === 'fence').length,
      tokens: events.filter(({ type }) => type === 'delta').length,
      left: await this.left(),
    }
  }

  /** In the end nothing is held: looked at until it is so, or long enough. */
  private async left(): Promise<RunChaosReport['left']> {
    for (const until = performance.now() + 20_000; ; await delay(200)) {
      const states = await Promise.all(
        [...this.gateways].map(async ({ port }) => {
          try {
            const response = await fetch(`http://127.0.0.1:${port}/state`)
            return (await response.json()) as { owned: number; live: number }
          } catch {
            return { owned: Number.NaN, live: Number.NaN }
          }
        }),
      )
      const keys = (await this.redis.command('KEYS', '*jobs:*:queue')) as string[]
      const lengths = await Promise.all(keys.map((key) => this.redis.command('XLEN', key)))
      const sum = (numbers: number[]) => numbers.reduce((total, one) => total + one, 0)
      const left = {
        owned: sum(states.map(({ owned }) => owned)),
        live: sum(states.map(({ live }) => live)),
        jobs: sum(lengths.map(Number)),
      }
      if (sum(Object.values(left)) === 0 || performance.now() > until) return left
    }
  }
}

function judge({ policy, request, terminal, text, events }: RunFollower): string | null {
  const expected = storyText(request)
  if (terminal === null) return `no end; it has ${text.length} of ${expected.length} characters`
  if (events.some(({ type }) => type === 'gap')) return 'a gap'
  if (terminal.type === 'end') {
    if (text === expected) return null
    return `the text differs: ${text.length} of ${expected.length} characters, from ${differsAt(text, expected)} on`
  }
  if (policy !== 'fail') return `fail: ${JSON.stringify(terminal)}`
  return expected.startsWith(text) ? null : 'what it had before it failed is no part of the text'
}

function differsAt(a: string, b: string): number {
  let at = 0
  while (at < a.length && a[at] === b[at]) at++
  return at
}
