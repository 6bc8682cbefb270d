import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { explain, toJsonSchema } from '../admin/validation.ts'
import { authMistakes, readAuthKeys, resolveAuthFiles } from './auth-keys.ts'
import { type ConfigLeaf, configLeaves, readEnvironment } from './config-env.ts'
import { ConfigError, mistake, type PlacedMistake } from './config-error.ts'
import { type ConfigPlace, configComplaintText, type RawConfig, readConfigText } from './config-file.ts'
import { configSchema, type GatewayConfig, type GatewayTokens } from './config-schema.ts'
import { balanceMistakes } from './pool-rules.ts'
import { proxyProtocolMistakes, proxyProtocolPoolMistakes } from './proxy-protocol.ts'
import { routeMistakes } from './route-rules.ts'
import { tcpMistakes } from './tcp-listeners.ts'
import { resolveCertificateFiles } from './tls.ts'
import { trustMistakes } from './trust.ts'
import { onlyUpstreams, upstreamPoolMistakes } from './upstream-pools.ts'

const configBytesMax = 1024 * 1024
const tokenBytesMax = 4096

export interface ConfigSources {
  /** A YAML or JSON file; `EVENKEEL_CONFIG` names it when this does not. */
  file?: string
  /** The environment, usually `process.env`. */
  env: Readonly<Record<string, string | undefined>>
  /** Values of flags by the name of the flag, for example `{'--port': {path: ['public', 'port'], value: 80}}`. */
  flags?: Readonly<Record<string, { path: readonly string[]; value: unknown }>>
}

export interface LoadedConfig {
  config: GatewayConfig
  tokens: GatewayTokens
  /** Sentences for the operator; nothing in them stops the gateway. */
  warnings: string[]
}

/** File, environment and flags in that rising order. Throws ConfigError with every mistake found. */
export async function loadConfig(sources: ConfigSources): Promise<LoadedConfig> {
  const file = sources.file ?? (sources.env.EVENKEEL_CONFIG || undefined)
  const read = file === undefined ? null : readConfigText(await readText(file, configBytesMax), file)
  const raw = read?.raw ?? {}
  // Not structuredClone, which keeps YAML aliases shared: setting one value would set the other too.
  const merged = JSON.parse(JSON.stringify(raw)) as RawConfig
  if (file !== undefined) resolveTokenFiles(merged, path.dirname(file))

  const environment = readEnvironment(sources.env)
  const givenBy = new Map<string, string>()
  for (const { leaf, value } of environment.values) setLeaf(merged, leaf.path, value, leaf.variable, givenBy)
  for (const [flag, given] of Object.entries(sources.flags ?? {})) {
    if (given.value !== undefined) setLeaf(merged, given.path, given.value, flag, givenBy)
  }

  const placeOf = (where: readonly PropertyKey[]): ConfigPlace => {
    const source = sourceOf(where.map(String), givenBy)
    return source === undefined ? (read?.placeOf(where) ?? { source: 'configuration' }) : { source }
  }
  const result = configSchema.safeParse(merged)
  if (!result.success) {
    const complaints = explain(configSchema, result.error, merged)
    throw new ConfigError(
      complaints.map((complaint) => ({
        ...placeOf(complaint.path),
        message: configComplaintText(complaint),
      })),
    )
  }
  const { $schema: _, nodeTokenFile, adminTokenFile, ...config } = result.data
  const mistakes = inconsistencies(config)
  if (config.workers > 1 && config.redis === undefined) {
    const message = `${config.workers} workers find each other through Redis; set redis (EVENKEEL_REDIS, --redis), or workers to 1`
    mistakes.push({ path: ['workers'], message })
  }
  assertNone(mistakes, placeOf)
  const tokens = {
    nodeToken: await readToken('EVENKEEL_NODE_TOKEN', sources.env, nodeTokenFile),
    adminToken: await readToken('EVENKEEL_ADMIN_TOKEN', sources.env, adminTokenFile),
    ...(await readPersistenceSecret(config.persistence.secretFile)),
    ...(config.auth?.jwt?.keys === undefined ? {} : { authKeys: await readAuthKeys(config) }),
  }
  return { config: deepFreeze(config), tokens: Object.freeze(tokens), warnings: environment.warnings }
}

/** Checks one file by itself, without environment and flags. Throws ConfigError. */
export async function checkConfigFile(file: string): Promise<GatewayConfig> {
  const { raw, placeOf } = readConfigText(await readText(file, configBytesMax), file)
  const { $schema: _, nodeTokenFile: __, adminTokenFile: ___, ...config } = configSchema.parse(raw)
  assertNone(inconsistencies(config), placeOf)
  return deepFreeze(config)
}

/** Checks what was changed of routes since they were read. Throws ConfigError. */
export function validateRoutes(config: GatewayConfig, source: string): void {
  assertNone(leadingMistakes(config), () => ({ source }))
}

/** Every environment variable that sets a value of the configuration, in the order of the schema. */
export function environmentVariables(): ConfigLeaf[] {
  return configLeaves(toJsonSchema(configSchema))
}

function setLeaf(
  target: RawConfig,
  leafPath: readonly string[],
  value: unknown,
  source: string,
  givenBy: Map<string, string>,
): void {
  let owner = target
  for (const part of leafPath.slice(0, -1)) {
    owner[part] ??= {}
    owner = owner[part] as RawConfig
  }
  owner[leafPath.at(-1)!] = value
  givenBy.set(leafPath.join('.'), source)
}

function sourceOf(complaintPath: string[], givenBy: Map<string, string>): string | undefined {
  for (let length = complaintPath.length; length > 0; length--) {
    const source = givenBy.get(complaintPath.slice(0, length).join('.'))
    if (source !== undefined) return source
  }
  return undefined
}

/** Rules between values, which a schema of single values cannot say. */
function inconsistencies(config: GatewayConfig): PlacedMistake[] {
  const mistakes: PlacedMistake[] = []
  const ports = portMistake(config)
  if (ports !== null) mistakes.push({ path: ['internal', 'port'], message: ports })
  const { heartbeatMs, suspectMs, downMs } = config.limits
  if (!(heartbeatMs < suspectMs && suspectMs < downMs)) {
    const expected = 'expected heartbeatMs < suspectMs < downMs'
    const got = `got ${heartbeatMs}, ${suspectMs} and ${downMs} (defaults included)`
    mistakes.push(mistake(['limits'], `${expected}, ${got}`))
  }
  const ofPeers = [...proxyProtocolMistakes(['public'], config.public), ...trustMistakes(config)]
  return [...mistakes, ...ofPeers, ...leadingMistakes(config), ...authMistakes(config)]
}

/** Of what leads where. */
function leadingMistakes(config: GatewayConfig): PlacedMistake[] {
  return [
    ...poolMistakes(config),
    ...routeMistakes(config),
    ...tcpMistakes(config),
    ...proxyProtocolPoolMistakes(config),
    ...balanceMistakes(config),
  ]
}

/** Throws ConfigError. */
function assertNone(
  mistakes: readonly PlacedMistake[],
  placeOf: (path: readonly PropertyKey[]) => ConfigPlace,
): void {
  if (mistakes.length === 0) return
  throw new ConfigError(mistakes.map(({ path: where, message }) => ({ ...placeOf(where), message })))
}

function poolMistakes(config: GatewayConfig): PlacedMistake[] {
  const { pool: served, pools } = config
  const mistakes = upstreamPoolMistakes(onlyUpstreams(config))
  for (const [name, { of, upstreams, dns }] of Object.entries(pools)) {
    const path = ['pools', name]
    const hasServers = upstreams.length > 0 || dns !== undefined
    if (name === served && (hasServers || of === 'upstreams'))
      mistakes.push(
        mistake(
          path,
          `/ws and /sse are served by nodes of pool ${name}; give its upstreams another pool and a route`,
        ),
      )
    else if (of === 'nodes' && hasServers)
      mistakes.push(mistake(path, 'a pool of nodes has no upstreams; give them another pool'))
  }
  return mistakes
}

/** Each worker counts one up from `internal.port`. */
function portMistake({ public: { port }, internal, workers }: GatewayConfig): string | null {
  const last = internal.port + workers - 1
  if (internal.port === 0) return null
  if (last > 65_535)
    return `internal.port: ${workers} workers count up to port ${last}; begin at ${65_536 - workers} or below`
  if (port < internal.port || port > last) return null
  return workers === 1
    ? `public.port and internal.port are both ${port}; give each listener its own port`
    : `public.port ${port} is among the internal ports of the workers, ${internal.port} to ${last}; choose another one`
}

/** In a file, a relative name means beside that file; elsewhere, in the working directory. */
function resolveTokenFiles(raw: RawConfig, directory: string): void {
  for (const key of ['nodeTokenFile', 'adminTokenFile']) {
    const name = raw[key]
    if (typeof name === 'string') raw[key] = path.resolve(directory, name)
  }
  resolveAuthFiles(raw, directory)
  const { persistence } = raw as { persistence?: { secretFile?: unknown } | null }
  if (typeof persistence?.secretFile === 'string')
    persistence.secretFile = path.resolve(directory, persistence.secretFile)
  resolveCertificateFiles(raw, directory)
}

async function readToken(
  variable: string,
  env: ConfigSources['env'],
  file: string | undefined,
): Promise<string | null> {
  const given = env[variable]
  if (given) return assertToken(given, variable)
  if (file === undefined) return null
  return assertToken((await readText(file, tokenBytesMax)).trim(), file)
}

async function readPersistenceSecret(
  file: string | undefined,
): Promise<Pick<GatewayTokens, 'persistenceSecret'>> {
  if (file === undefined) return {}
  return { persistenceSecret: assertToken((await readText(file, tokenBytesMax)).trim(), file) }
}

function assertToken(token: string, source: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw new ConfigError([
    {
      source,
      message: 'a token is one or more printable ASCII characters without spaces (its value is not shown)',
    },
  ])
}

async function readText(file: string, bytesMax: number): Promise<string> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new ConfigError([{ source: file, message: `cannot be read (${code})` }])
  }
  if (Buffer.byteLength(text) <= bytesMax) return text
  throw new ConfigError([{ source: file, message: `is larger than ${bytesMax} bytes` }])
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const part of Object.values(value)) deepFreeze(part)
    Object.freeze(value)
  }
  return value
}
