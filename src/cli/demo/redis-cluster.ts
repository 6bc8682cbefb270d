import type { OperatorEvent, SessionView } from '../../gateway/operator.ts'
import type { DemoOptions } from '../commands/demo.ts'
import type { LoadedConfig } from '../config.ts'
import { CommandFailed } from '../errors.ts'
import type { DemoCluster } from './cluster.ts'
import { demoFlags, urlOf } from './config.ts'
import { freePort } from './free-port.ts'
import { Front } from './front.ts'
import { GatewayProcess } from './gateway-process.ts'
import { mergeNodes } from './merged-nodes.ts'
import { type DemoControl, notReady } from './pages.ts'
import { type DemoRedis, startRedis } from './redis.ts'

const gatewayCount = 2
const nextGatewayMs = 5_000
const lastWordMs = 200

/** Several gateways that meet at a Redis of their own, each a process. Throws CommandFailed. */
export async function openRedisCluster(options: DemoOptions, loaded: LoadedConfig): Promise<DemoCluster> {
  const cluster = new RedisCluster(await startRedis(), loaded, options)
  try {
    await cluster.open()
  } catch (error) {
    await cluster.close()
    throw error
  }
  return cluster
}

class RedisCluster implements DemoCluster {
  private readonly redis: DemoRedis
  private readonly loaded: LoadedConfig
  private readonly members: GatewayProcess[] = []
  private readonly eventListeners: ((event: OperatorEvent, gateway: string) => void)[] = []
  private readonly endListeners: ((what: string, how: string) => void)[] = []
  private readonly options: DemoOptions
  private front: Front | null = null
  private started = 0
  private control: DemoControl = () => Promise.reject(notReady())
  private closing = false

  constructor(redis: DemoRedis, loaded: LoadedConfig, options: DemoOptions) {
    this.redis = redis
    this.loaded = loaded
    this.options = options
    this.watchEnd('redis-server', redis.ended)
  }

  get redisUrl() {
    return this.redis.url
  }
  get pool() {
    return this.loaded.config.pool
  }
  get nodeToken() {
    return this.loaded.tokens.nodeToken
  }
  get nodeArguments() {
    return ['--redis', this.redis.url]
  }
  get redelivered() {
    return this.members.reduce((sum, { redelivered }) => sum + redelivered, 0)
  }

  gateways() {
    return this.members.map((gateway) => gateway.row())
  }

  nodes() {
    return mergeNodes(this.live().map(({ nodes }) => nodes))
  }

  async rebalance() {
    return (await this.live()[0]?.rebalance()) ?? []
  }

  get pageUrl() {
    return urlOf(this.loaded.config.public.host, this.front!.port)
  }

  onControl(control: DemoControl): void {
    this.control = control
  }

  async nodeOf(session: string) {
    return (await this.holderOf(session))?.view.node ?? null
  }

  async migrate(session: string, to: string) {
    await (await this.holderOf(session))?.gateway.migrate(session, to)
  }

  async killGatewayOf(session: string) {
    const holder = await this.holderOf(session)
    if (holder === null || this.live().length < 2) return null
    const { gateway } = holder
    // The page may have asked by way of this one, and is to hear the answer.
    setTimeout(() => void gateway.kill(), lastWordMs)
    // So that it can be done again. The others have time to show what they do without it.
    setTimeout(() => {
      if (!this.closing)
        this.addGateway().catch((error: Error) => this.ended('the next gateway', error.message))
    }, nextGatewayMs)
    return gateway.id
  }

  onEvent(listener: (event: OperatorEvent, gateway: string) => void): void {
    this.eventListeners.push(listener)
  }

  onUnexpectedEnd(listener: (what: string, how: string) => void): void {
    this.endListeners.push(listener)
  }

  async close(): Promise<void> {
    this.closing = true
    this.front?.close()
    await Promise.all(this.members.map((gateway) => gateway.kill()))
    await this.redis.close()
  }

  /** The public port is that of what stands in front of the gateways. */
  async open(): Promise<void> {
    const { host } = this.loaded.config.public
    const { port } = this.options
    this.front = await Front.listen(host, port, () => this.live().map(({ ports }) => ports.public)).catch(
      (error: unknown) => {
        throw portTaken(error, port) ?? error
      },
    )
    for (let i = 0; i < gatewayCount; i++) await this.addGateway()
  }

  private async addGateway(): Promise<void> {
    const { tty, policy, rebalanceIntervalMs } = this.options
    const id = `gateway-${++this.started}`
    const ports = await this.nextPorts()
    const gateway = await GatewayProcess.start({
      id,
      flags: {
        ...demoFlags,
        '--redis': { path: ['redis'], value: this.redis.url },
        '--policy': { path: ['policy'], value: policy },
        '--workers': { path: ['workers'], value: 1 },
        '--port': { path: ['public', 'port'], value: ports.public },
        '--internal-port': { path: ['internal', 'port'], value: ports.internal },
        '--rebalance-interval': { path: ['rebalance', 'intervalMs'], value: rebalanceIntervalMs },
        '--log-level': { path: ['log', 'level'], value: 'info' },
      },
      control: (action) => this.control(action),
      adminToken: this.loaded.tokens.adminToken,
      onEvent: (event) => {
        for (const listener of this.eventListeners) listener(event, id)
      },
      onWarning: (line) => {
        if (!tty && !this.closing) process.stderr.write(`${line}\n`)
      },
    })
    if (this.closing) {
      await gateway.kill()
      return
    }
    this.members.push(gateway)
    this.watchEnd(id, gateway.ended)
  }

  /** The next ones that are free behind the public port and the internal one of the first; 0 stays any. */
  private async nextPorts(): Promise<{ public: number; internal: number }> {
    const { port, internalPort } = this.options
    const { config } = this.loaded
    const last = this.members.at(-1)?.ports
    const isFirst = last === undefined
    const next = Math.max(port, internalPort, last?.public ?? 0, last?.internal ?? 0) + 1
    const publicPort = port === 0 ? 0 : await freePort(config.public.host, next)
    if (internalPort === 0) return { public: publicPort, internal: 0 }
    if (isFirst) return { public: publicPort, internal: internalPort }
    return {
      public: publicPort,
      internal: await freePort(config.internal.host, Math.max(next, publicPort + 1)),
    }
  }

  private live(): GatewayProcess[] {
    return this.members.filter(({ isUp }) => isUp)
  }

  private async holderOf(session: string): Promise<{ gateway: GatewayProcess; view: SessionView } | null> {
    for (const gateway of this.live()) {
      const view = await gateway.session(session)
      if (view !== null) return { gateway, view }
    }
    return null
  }

  private watchEnd(what: string, ended: Promise<string>): void {
    void ended.then((how) => this.ended(what, how))
  }

  private ended(what: string, how: string): void {
    if (this.closing) return
    for (const listener of this.endListeners) listener(what, how)
  }
}

function portTaken(error: unknown, port: number): CommandFailed | null {
  if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') return null
  return new CommandFailed(
    `Cannot listen on port ${port}: another program listens there. Choose another with --port.`,
    {
      cause: error,
    },
  )
}
