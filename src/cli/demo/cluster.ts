import type { NodeView, OperatorEvent, RebalanceResult } from '../../gateway/operator.ts'
import type { DemoOptions } from '../commands/demo.ts'
import { loadDemoConfig } from './config.ts'
import type { DemoControl } from './pages.ts'

export interface GatewayRow {
  id: string
  state: 'up' | 'down'
  publicUrl: string
  internalUrl: string
  /** Those that it has given to nodes. */
  sessions: number
  pid: number
}

/** The gateways of a demo, seen as one. */
export interface DemoCluster {
  /** Where the gateways meet; null for one gateway by itself. */
  readonly redisUrl: string | null
  readonly pool: string
  readonly nodeToken: string | null
  /** How a node is told where its gateways are. */
  readonly nodeArguments: readonly string[]
  readonly redelivered: number
  /** Where a browser goes: the gateway, or what stands in front of all of them. */
  readonly pageUrl: string
  /** The first one is where `--port` says. */
  gateways(): GatewayRow[]
  /** A node is healthy when it is so at every gateway. */
  nodes(): NodeView[]
  rebalance(): Promise<RebalanceResult[]>
  /** Says who does what the page asks for. */
  onControl(control: DemoControl): void
  /** The node that has the session; null: it is not here. Throws CommandFailed. */
  nodeOf(session: string): Promise<string | null>
  /** Throws CommandFailed or EvenkeelError. */
  migrate(session: string, to: string): Promise<void>
  /** SIGKILLs the gateway that has the session, and starts another one; its id, or null when there is no other. */
  killGatewayOf(session: string): Promise<string | null>
  /** `gateway` is who says so; null when there is but one. */
  onEvent(listener: (event: OperatorEvent, gateway: string | null) => void): void
  /** A process of the cluster ended by itself. */
  onUnexpectedEnd(listener: (what: string, how: string) => void): void
  close(): Promise<void>
}

/** Opens what the options ask for. Throws ConfigError or CommandFailed. */
export async function openCluster(options: DemoOptions): Promise<DemoCluster> {
  const loaded = await loadDemoConfig(options)
  if (options.redis) {
    const { openRedisCluster } = await import('./redis-cluster.ts')
    return openRedisCluster(options, loaded)
  }
  const { openLocalGateway } = await import('./local-gateway.ts')
  return openLocalGateway(options, loaded)
}
