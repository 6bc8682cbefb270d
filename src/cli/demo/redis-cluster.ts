import type { OperatorEvent } from '../../gateway/operator.ts'
import type { DemoOptions } from '../commands/demo.ts'
import type { LoadedConfig } from '../config.ts'
import type { DemoCluster } from './cluster.ts'
import { freePort } from './free-port.ts'
import { GatewayProcess } from './gateway-process.ts'
import { mergeNodes } from './merged-nodes.ts'
import { type DemoRedis, startRedis } from './redis.ts'

const gatewayCount = 2

/** Several gateways that meet at a Redis of their own, each a process. Throws CommandFailed. */
export async function openRedisCluster(options: DemoOptions, loaded: LoadedConfig): Promise<DemoCluster> {
  const cluster = new RedisCluster(await startRedis(), loaded)
  try {
    for (let i = 0; i < gatewayCount; i++) await cluster.addGateway(options)
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
  private closing = false

  constructor(redis: DemoRedis, loaded: LoadedConfig) {
    this.redis = redis
    this.loaded = loaded
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

  onEvent(listener: (event: OperatorEvent, gateway: string) => void): void {
    this.eventListeners.push(listener)
  }

  onUnexpectedEnd(listener: (what: string, how: string) => void): void {
    this.endListeners.push(listener)
  }

  async close(): Promise<void> {
    this.closing = true
    await Promise.all(this.members.map((gateway) => gateway.kill()))
    await this.redis.close()
  }

  async addGateway({ tty, port, internalPort, policy, rebalanceIntervalMs }: DemoOptions): Promise<void> {
    const id = `gateway-${this.members.length + 1}`
    const ports = await this.nextPorts(port, internalPort)
    const gateway = await GatewayProcess.start({
      id,
      flags: [
        ...['--redis', this.redis.url, '--policy', policy, '--workers', '1'],
        ...['--port', String(ports.public), '--internal-port', String(ports.internal)],
        ...['--rebalance-interval', String(rebalanceIntervalMs)],
      ],
      adminToken: this.loaded.tokens.adminToken,
      onEvent: (event) => {
        for (const listener of this.eventListeners) listener(event, id)
      },
      onWarning: (line) => {
        if (!tty && !this.closing) process.stderr.write(`${line}\n`)
      },
    })
    this.members.push(gateway)
    this.watchEnd(id, gateway.ended)
  }

  /** What was asked for, then the next ones that are free; 0 stays any. */
  private async nextPorts(port: number, internalPort: number) {
    const last = this.members.at(-1)?.ports
    if (last === undefined) return { public: port, internal: internalPort }
    const { config } = this.loaded
    const next = Math.max(last.public, last.internal) + 1
    const publicPort = port === 0 ? 0 : await freePort(config.public.host, next)
    return {
      public: publicPort,
      internal:
        internalPort === 0
          ? 0
          : await freePort(config.internal.host, port === 0 ? last.internal + 1 : publicPort + 1),
    }
  }

  private live(): GatewayProcess[] {
    return this.members.filter(({ isUp }) => isUp)
  }

  private watchEnd(what: string, ended: Promise<string>): void {
    void ended.then((how) => {
      if (this.closing) return
      for (const listener of this.endListeners) listener(what, how)
    })
  }
}
