import { type PolicyName, policies } from '../core/balance/policies.ts'

export type { PolicyName }

/** What flags and the configuration schema both allow. Apart from the schema: `--help` must not load a schema library. */
export const policyNames = Object.keys(policies) as PolicyName[]

export { clientKeyPlaces } from '../core/balance/client-key.ts'
export { affinities, loadKinds, measures } from '../core/balance/pool-rules.ts'

export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

export const workersMax = 64

/** Timers of more milliseconds than this fire at once. */
export const timerMsMax = 2_147_483_647
