import type { ReloadReport } from '../../admin/config-api.ts'
import type { ErrorCode } from '../../protocol/errors.ts'
import type { ConfigMistake } from '../config-error.ts'
import type { GatewayConfig, GatewayTokens } from '../config-schema.ts'
import type { ReloadNote } from '../running-config.ts'

/** What the parent tells a worker, over the channel between their processes. */
export type Order =
  | {
      readonly type: 'start'
      readonly config: GatewayConfig
      readonly tokens: GatewayTokens
      readonly file: string | null
    }
  | { readonly type: 'leave' }
  /** `id`: of the report that answers. */
  | {
      readonly type: 'apply'
      readonly id: number
      readonly config: GatewayConfig
      readonly tokens: GatewayTokens
    }
  | { readonly type: 'reloaded'; readonly id: number; readonly result: ReloadResult }
  | { readonly type: 'note'; readonly note: ReloadNote }

export type ReloadResult = { readonly report: ReloadReport } | { readonly problem: Failure }

/** An error, on its way between processes. */
export interface Failure {
  readonly code: ErrorCode
  readonly message: string
  readonly mistakes?: ConfigMistake[]
}

/** What a worker tells its parent. */
export type Report =
  | ReadyReport
  | { readonly type: 'failed'; readonly message: string }
  | { readonly type: 'applied'; readonly id: number; readonly problem: Failure | null }
  /** An operator wants the configuration to be read again. */
  | { readonly type: 'reload'; readonly id: number; readonly dryRun: boolean }
  | { readonly type: 'routes'; readonly routes: GatewayConfig['routes'] }

export interface ReadyReport {
  readonly type: 'ready'
  readonly gateway: string
  readonly publicPort: number
  readonly internalPort: number
}
