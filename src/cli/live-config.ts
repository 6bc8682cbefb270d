import { createHash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { ConfigChange, ConfigEffect } from '../admin/config-api.ts'
import { pathText } from '../admin/validation.ts'
import type { Limits } from '../protocol/limits.ts'
import type { GatewayConfig, GatewayTokens } from './config-schema.ts'

/** What of the configuration can change while a gateway runs, and what a change is. Pure. */

type Section = keyof GatewayConfig

/** All others wait for a restart. `new`: for what begins from then on. */
const sections: { readonly [Key in Section]?: ConfigEffect } = {
  pool: 'new',
  pools: 'live',
  routes: 'new',
  policy: 'live',
  hashKey: 'live',
  slowStartMs: 'live',
  persistence: 'new',
  allowedOrigins: 'new',
  auth: 'new',
  trustedProxies: 'new',
  forwardedHeader: 'new',
  slowConsumer: 'live',
  channels: 'new',
  rebalance: 'live',
  rateLimits: 'new',
  overload: 'live',
  log: 'live',
}

/** Read where they are used. All others are known to somebody from a handshake or a start, and wait for a restart. */
const limitEffects: { readonly [Key in keyof Limits]?: ConfigEffect } = {
  inboxMessages: 'live',
  inboxBytes: 'live',
  channelsPerSession: 'live',
  headerCount: 'live',
  handshakeMs: 'new',
  http2Resets: 'new',
  http2IdleMs: 'live',
  idlePingMs: 'live',
  idlePongMs: 'live',
  prepareMs: 'live',
  quiesceMs: 'live',
  lateOutputMs: 'live',
  holdMs: 'live',
  waitForNodeMs: 'live',
  resumeSpreadMs: 'live',
  seekMs: 'live',
  seekUnlinkedMs: 'live',
  migrationWindow: 'live',
  migrationsPerSecond: 'live',
  gatewayDrainMs: 'live',
  drainDeadlineMs: 'new',
  downNodeMs: 'live',
  downNodes: 'live',
  linkHighWaterBytes: 'new',
  upstreamDialMs: 'new',
  upstreamReadMs: 'new',
  upstreamConnections: 'new',
  clientStallMs: 'new',
  runQueueDepth: 'live',
  runQueueAgeMs: 'live',
  runStreams: 'new',
  runReaderBytes: 'new',
  runCoalesceMs: 'new',
  runRelayMs: 'live',
  llmRequestBytes: 'live',
  llmEventBytes: 'new',
  llmHeadMs: 'new',
}

/** Secrets that are read with the configuration and can change while it runs. */
const liveTokens: ReadonlySet<keyof GatewayTokens> = new Set(['persistenceSecret', 'authKeys'])

export function effectOf(path: readonly PropertyKey[]): ConfigEffect {
  const [section, name] = path
  if (section === 'limits') return limitEffects[name as keyof Limits] ?? 'restart'
  // What a session's messages do is settled when it begins.
  if (section === 'pools' && (path[2] === 'affinity' || path[2] === 'orderBy')) return 'new'
  return sections[section as Section] ?? 'restart'
}

/** What would change, secrets left out; each value by itself, lists as a whole when their length changes. */
export function configChanges(
  before: GatewayConfig,
  after: GatewayConfig,
  tokens: { before: GatewayTokens; after: GatewayTokens },
): ConfigChange[] {
  const changes = differences(before, after, [])
  const names = new Set([...Object.keys(tokens.before), ...Object.keys(tokens.after)]) as Set<
    keyof GatewayTokens
  >
  for (const name of names)
    if (!isDeepStrictEqual(tokens.before[name], tokens.after[name]))
      changes.push({ path: name, effect: liveTokens.has(name) ? 'new' : 'restart' })
  return changes
}

/** What runs once `wanted` was read: all of it that can change now. */
export function mergeLive(running: GatewayConfig, wanted: GatewayConfig): GatewayConfig {
  const merged: Record<string, unknown> = { ...running }
  for (const section of Object.keys(sections) as Section[]) {
    if (wanted[section] === undefined) delete merged[section]
    else merged[section] = wanted[section]
  }
  const limits = Object.entries(wanted.limits).filter(([name]) => effectOf(['limits', name]) !== 'restart')
  merged.limits = { ...running.limits, ...Object.fromEntries(limits) }
  return merged as unknown as GatewayConfig
}

export function mergeTokens(running: GatewayTokens, wanted: GatewayTokens): GatewayTokens {
  const live = Object.entries(wanted).filter(([name]) => liveTokens.has(name as keyof GatewayTokens))
  const kept = Object.entries(running).filter(([name]) => !liveTokens.has(name as keyof GatewayTokens))
  return Object.fromEntries([...kept, ...live]) as unknown as GatewayTokens
}

/** The same for the same values, whatever their order is. */
export function configHash(config: GatewayConfig): string {
  return createHash('sha256')
    .update(JSON.stringify(sorted(config)))
    .digest('hex')
    .slice(0, 16)
}

/** For people and logs: passwords of URLs, and what is called a secret, are not shown. */
export function withoutSecrets(value: unknown, key = ''): unknown {
  if (typeof value === 'string') {
    if (/(secret|password|token)$/i.test(key)) return '[redacted]'
    const url = /^[a-z][a-z0-9+.-]*:\/\/[^/]*@/i.test(value) ? URL.parse(value) : null
    if (url === null) return value
    if (url.password !== '') url.password = 'redacted'
    return url.href
  }
  if (Array.isArray(value)) return value.map((one) => withoutSecrets(one, key))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, withoutSecrets(one, name)]))
}

function differences(before: unknown, after: unknown, path: PropertyKey[]): ConfigChange[] {
  if (isDeepStrictEqual(before, after)) return []
  if (Array.isArray(before) && Array.isArray(after) && before.length === after.length)
    return before.flatMap((one, index) => differences(one, after[index], [...path, index]))
  if (isRecord(before) && isRecord(after)) {
    const names = [...new Set([...Object.keys(before), ...Object.keys(after)])]
    return names.flatMap((name) => differences(before[name], after[name], [...path, name]))
  }
  const shown = (value: unknown) => withoutSecrets(value, String(path.at(-1)))
  return [
    {
      path: pathText(path),
      ...(before === undefined ? {} : { from: shown(before) }),
      ...(after === undefined ? {} : { to: shown(after) }),
      effect: effectOf(path),
    },
  ]
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (!isRecord(value)) return value
  const names = Object.keys(value).sort()
  return Object.fromEntries(names.map((name) => [name, sorted(value[name])]))
}
