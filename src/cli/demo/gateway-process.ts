import { setTimeout as delay } from 'node:timers/promises'
import { localScope } from '../../admin/peers.ts'
import type { NodeView, OperatorEvent, RebalanceResult, SessionView } from '../../gateway/operator.ts'
import { type ApiClient, createApiClient, segment } from '../api-client.ts'
import type { ConfigSources } from '../config.ts'
import { CommandFailed } from '../errors.ts'
import { readEvents } from '../event-reader.ts'
import { type ChildModule, startModule } from './child-module.ts'
import type { GatewayRow } from './cluster.ts'
import { demoEnvironment, urlOf } from './config.ts'
import { answerControl } from './control-channel.ts'
import type { DemoControl } from './pages.ts'

const pollMs = 500
const callTimeoutMs = 2_000
/** Lines of the gateway's log from this level on are worth a look. */
const warnLevel = 40

export interface GatewayProcessOptions {
  id: string
  /** As `evenkeel gateway` would set them. */
  flags: NonNullable<ConfigSources['flags']>
  control: DemoControl
  adminToken: string | null
  onEvent(event: OperatorEvent): void
  /** Gets the lines of its log that warn. */
  onWarning(line: string): void
}

interface Ready {
  public: { host: string; port: number }
  internal: { host: string; port: number }
}

/** A gateway of the real CLI as a child, seen through its admin API. */
export class GatewayProcess {
  readonly id: string
  readonly ports: { readonly public: number; readonly internal: number }
  nodes: NodeView[] = []
  redelivered = 0
  private readonly child: ChildModule
  private readonly publicUrl: string
  private readonly internalUrl: string
  private readonly api: ApiClient
  private readonly stopped = new AbortController()

  /** Resolves when it serves. Throws CommandFailed. */
  static async start(options: GatewayProcessOptions): Promise<GatewayProcess> {
    const { id, flags, onWarning } = options
    const ready = Promise.withResolvers<Ready>()
    const child = startModule('./gateway-main', [JSON.stringify(flags)], {
      env: { ...demoEnvironment, EVENKEEL_GATEWAY_ID: id },
      onLine(line) {
        const { level, msg, ...rest } = JSON.parse(line) as Ready & { level: number; msg: string }
        if (msg === 'gateway ready') ready.resolve(rest)
        else if (level >= warnLevel) onWarning(line)
      },
    })
    answerControl(child.process, options.control)
    const failed = child.ended.then((how): never => {
      throw new CommandFailed(`${id} ${how}`)
    })
    const gateway = new GatewayProcess(options, child, await Promise.race([ready.promise, failed]))
    await Promise.race([gateway.observe(options), failed])
    failed.catch(() => gateway.stopped.abort())
    return gateway
  }

  private constructor({ id, adminToken }: GatewayProcessOptions, child: ChildModule, ready: Ready) {
    this.id = id
    this.child = child
    this.ports = { public: ready.public.port, internal: ready.internal.port }
    this.publicUrl = urlOf(ready.public.host, ready.public.port)
    this.internalUrl = urlOf(ready.internal.host, ready.internal.port)
    const url = new URL(`${this.internalUrl}/`)
    this.api = createApiClient({ url, token: adminToken, timeoutMs: callTimeoutMs })
  }

  get isUp(): boolean {
    return !this.stopped.signal.aborted
  }

  get ended(): Promise<string> {
    return this.child.ended
  }

  row(): GatewayRow {
    return {
      id: this.id,
      state: this.isUp ? 'up' : 'down',
      publicUrl: this.publicUrl,
      internalUrl: this.internalUrl,
      sessions: this.isUp ? this.nodes.reduce((sum, { sessionsHere }) => sum + sessionsHere, 0) : 0,
      pid: this.child.process.pid!,
    }
  }

  /** Throws CommandFailed. */
  async rebalance(): Promise<RebalanceResult[]> {
    const answer = await this.api.call<RebalanceResult | { plans: RebalanceResult[] }>(
      'POST',
      '/rebalance',
      {},
    )
    return 'plans' in answer ? answer.plans : [answer]
  }

  /** The session as this gateway has it; null: it has not. Throws CommandFailed. */
  async session(id: string): Promise<SessionView | null> {
    const response = await this.api.fetch(`api/v1/sessions/${segment(id)}`, { headers: localScope })
    return response.ok ? ((await response.json()) as SessionView) : null
  }

  /** Throws CommandFailed. */
  migrate(session: string, to: string): Promise<unknown> {
    return this.api.call('POST', `/sessions/${segment(session)}/migrate`, { to })
  }

  async kill(): Promise<void> {
    this.stopped.abort()
    this.child.process.kill('SIGKILL')
    await this.child.ended
  }

  /** Resolves with the first view; from then on it is kept up to date. */
  private async observe({ onEvent }: GatewayProcessOptions): Promise<void> {
    await Promise.all([
      new Promise<void>((resolve) => void this.repeat(() => this.follow(onEvent, resolve))),
      new Promise<void>((resolve) => void this.repeat(() => this.look().then(resolve))),
    ])
  }

  /** What fails is tried again: a busy gateway is no reason to end the demo, and its own end is seen by its process. */
  private async repeat(task: () => Promise<void>): Promise<void> {
    while (this.isUp) {
      await task().catch(() => {})
      await delay(pollMs)
    }
  }

  private async follow(onEvent: (event: OperatorEvent) => void, opened: () => void): Promise<void> {
    const { body } = await this.api.fetch('api/v1/events', { signal: this.stopped.signal })
    opened()
    await readEvents(body!, onEvent)
  }

  private async look(): Promise<void> {
    const [nodes, metrics] = await Promise.all([
      this.api.call<NodeView[]>('GET', '/nodes'),
      this.api.fetch('metrics').then((response) => response.text()),
    ])
    this.nodes = nodes
    this.redelivered = Number(/^evenkeel_messages_redelivered_total (\d+)$/m.exec(metrics)?.[1] ?? 0)
  }
}
