import type { GatewayConfig, GatewayTokens } from '../config-schema.ts'

/** What the parent tells a worker, over the channel between their processes. */
export type Order =
  | { readonly type: 'start'; readonly config: GatewayConfig; readonly tokens: GatewayTokens }
  | { readonly type: 'leave' }

/** What a worker tells its parent. */
export type Report = ReadyReport | { readonly type: 'failed'; readonly message: string }

export interface ReadyReport {
  readonly type: 'ready'
  readonly gateway: string
  readonly publicPort: number
  readonly internalPort: number
}
