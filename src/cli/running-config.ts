import type {
  ConfigChange,
  ConfigControl,
  ConfigView,
  ReloadOutcome,
  ReloadReport,
  RouteChange,
  RouteView,
} from '../admin/config-api.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { type ConfigSources, type LoadedConfig, validateRoutes } from './config.ts'
import { ConfigError, type ConfigMistake } from './config-error.ts'
import type { GatewayConfig, GatewayTokens } from './config-schema.ts'
import { configChanges, configHash, mergeLive, mergeTokens, withoutSecrets } from './live-config.ts'
import type { Logger } from './logger.ts'
import { effectiveRoutes } from './route-rules.ts'

/** Where a gateway's configuration comes from. */
export interface ConfigOrigin {
  readonly file: string | null
  /** Reads all of it anew. Throws ConfigError. */
  readonly load: () => Promise<LoadedConfig>
}

/** A worker's configuration is its parent's business. */
export interface ParentConfig {
  readonly file: string | null
  reload(dryRun: boolean): Promise<ReloadReport>
  /** An operator has changed routes here: who takes this worker's place is to have them, too. */
  routesChanged(routes: GatewayConfig['routes']): void
}

export interface RunningConfigOptions {
  readonly gatewayId: string
  readonly config: GatewayConfig
  readonly tokens: GatewayTokens
  readonly logger: Pick<Logger, 'info' | 'warn' | 'error'>
  /** null: there is nothing that could be read again. */
  readonly origin: ConfigOrigin | ParentConfig | null
  /** Makes it hold. Throws with nothing changed. */
  apply(config: GatewayConfig, tokens: GatewayTokens): Promise<void>
  /** A reload has ended. */
  noted?(note: ReloadNote): void
}

/** What a reload has come to. */
export interface ReloadNote {
  readonly at: number
  readonly outcome: ReloadOutcome
  readonly mistakes?: ConfigMistake[]
  /** What was read and waits for a restart; absent: as before. */
  readonly pending?: readonly string[]
}

export function configOrigin(file: string | null, load: () => Promise<LoadedConfig>): ConfigOrigin {
  return { file, load }
}

export function fileOf({ file, env }: ConfigSources): string | null {
  return file ?? (env.EVENKEEL_CONFIG || null)
}

/** The configuration that runs, and how it is replaced: as a whole, one change after the other. */
export class RunningConfig implements ConfigControl {
  readonly reloads: Record<ReloadOutcome, number> = { applied: 0, unchanged: 0, invalid: 0, failed: 0 }
  private readonly options: RunningConfigOptions
  private config: GatewayConfig
  private tokens: GatewayTokens
  private loadedAt = Date.now()
  private last: ConfigView['lastReload'] = null
  private pending: readonly string[] = []
  private changedRoutes = new Set<string>()
  private turn: Promise<unknown> = Promise.resolve()

  constructor(options: RunningConfigOptions) {
    this.options = options
    this.config = options.config
    this.tokens = options.tokens
  }

  get current(): { readonly config: GatewayConfig; readonly tokens: GatewayTokens } {
    return { config: this.config, tokens: this.tokens }
  }

  view(): ConfigView {
    const { gatewayId, origin } = this.options
    const { last } = this
    return {
      gateway: gatewayId,
      hash: configHash(this.config),
      loadedAt: this.loadedAt,
      file: origin?.file ?? null,
      config: withoutSecrets(this.config),
      pending: [...this.pending],
      changedRoutes: [...this.changedRoutes],
      lastReload: last,
    }
  }

  async reload({ dryRun }: { dryRun: boolean }): Promise<ReloadReport> {
    const { origin } = this.options
    if (origin === null)
      throw new EvenkeelError(
        'CONFLICT',
        'this gateway was given its configuration, and cannot read it again',
      )
    if ('reload' in origin) return await origin.reload(dryRun)
    return await this.inTurn(() => this.reloadFrom(origin, dryRun))
  }

  /** Takes over what somebody else has read and checked. Throws with nothing changed. */
  async take(config: GatewayConfig, tokens: GatewayTokens): Promise<void> {
    await this.inTurn(() => this.put({ config, tokens }))
  }

  /** A reload has ended, here or at the parent. */
  note(note: ReloadNote): void {
    const { at, outcome, mistakes } = note
    this.last = { at, outcome, ...(mistakes === undefined ? {} : { mistakes }) }
    this.pending = note.pending ?? this.pending
    // What operators have changed is what was read by now.
    if (outcome === 'unchanged') this.changedRoutes.clear()
    this.reloads[note.outcome]++
    this.options.noted?.(note)
  }

  routes(): RouteView[] {
    return effectiveRoutes(this.config).map(({ name = null, path, protocol = 'http', pool, split = [] }) => ({
      name,
      path,
      protocol,
      pool,
      split: split.map((part) => ({ pool: part.pool, percent: part.percent })),
    }))
  }

  async changeRoute(name: string, change: RouteChange): Promise<RouteView> {
    return await this.inTurn(async () => {
      const index = this.config.routes.findIndex((route) => route.name === name)
      if (index === -1) {
        const known = this.config.routes.flatMap((route) => route.name ?? [])
        throw new EvenkeelError(
          'NOT_FOUND',
          `no route is called ${name}; known: ${known.join(', ') || 'none'}`,
        )
      }
      const routes = this.config.routes.with(index, changed(this.config.routes[index]!, change))
      const config = { ...this.config, routes }
      validateRoutes(config, 'the change')
      await this.options.apply(config, this.tokens)
      this.config = config
      this.loadedAt = Date.now()
      this.changedRoutes.add(name)
      this.options.logger.info({ route: name, ...change }, 'a route was changed')
      const { origin } = this.options
      if (origin !== null && 'routesChanged' in origin) origin.routesChanged(routes)
      return this.routes()[index]!
    })
  }

  /** As an operator has changed them at a worker; nothing is applied. */
  adoptRoutes(routes: GatewayConfig['routes']): void {
    this.config = { ...this.config, routes }
  }

  private async reloadFrom(origin: ConfigOrigin, dryRun: boolean): Promise<ReloadReport> {
    const { logger } = this.options
    try {
      const { config, tokens, warnings } = await origin.load()
      const wanted = { config, tokens }
      const changes = this.changesTo(wanted)
      const next = mergeLive(this.config, config)
      const hash = configHash(next)
      if (dryRun) return { outcome: 'planned', hash, changes }
      for (const warning of warnings) logger.warn(warning)
      const isNew = changes.some(({ effect }) => effect !== 'restart')
      if (isNew) await this.put(wanted)
      const outcome = isNew ? 'applied' : 'unchanged'
      this.note({ at: Date.now(), outcome, pending: pathsOf(changes, 'restart') })
      this.tell(hash, outcome, changes)
      return { outcome, hash, changes }
    } catch (error) {
      if (dryRun) throw error
      const mistakes = error instanceof ConfigError ? error.mistakes : undefined
      const outcome = mistakes === undefined ? 'failed' : 'invalid'
      this.note({ at: Date.now(), outcome, ...(mistakes === undefined ? {} : { mistakes }) })
      const why = mistakes === undefined ? { err: error } : { mistakes }
      logger.error(why, 'the configuration was not reloaded; the former one goes on')
      throw error
    }
  }

  private async put(wanted: { config: GatewayConfig; tokens: GatewayTokens }): Promise<void> {
    const config = mergeLive(this.config, wanted.config)
    const tokens = mergeTokens(this.tokens, wanted.tokens)
    await this.options.apply(config, tokens)
    this.config = config
    this.tokens = tokens
    this.loadedAt = Date.now()
    this.changedRoutes.clear()
  }

  private changesTo({ config, tokens }: { config: GatewayConfig; tokens: GatewayTokens }): ConfigChange[] {
    return configChanges(this.config, config, { before: this.tokens, after: tokens })
  }

  private tell(hash: string, outcome: ReloadOutcome, changes: readonly ConfigChange[]): void {
    const { logger } = this.options
    const holds = [...pathsOf(changes, 'live'), ...pathsOf(changes, 'new')]
    logger.info({ hash, outcome, changed: holds }, 'configuration reloaded')
    const pending = pathsOf(changes, 'restart')
    if (pending.length > 0) logger.warn({ pending }, 'some of what has changed holds only after a restart')
  }

  private inTurn<T>(act: () => Promise<T>): Promise<T> {
    const done = this.turn.then(act)
    this.turn = done.catch(() => {})
    return done
  }
}

function pathsOf(changes: readonly ConfigChange[], wanted: ConfigChange['effect']): string[] {
  return changes.flatMap(({ path, effect }) => (effect === wanted ? [path] : []))
}

type ConfiguredRoute = GatewayConfig['routes'][number]

/** What forces a part goes on to do so. */
function changed(route: ConfiguredRoute, { pool = route.pool, split }: RouteChange): ConfiguredRoute {
  if (split === undefined) return { ...route, pool }
  if (split.length === 0) {
    const { split: _, sticky: __, ...rest } = route
    return { ...rest, pool }
  }
  const parts = split.map((part) => ({ ...route.split?.find((one) => one.pool === part.pool), ...part }))
  return { ...route, pool, split: parts }
}
