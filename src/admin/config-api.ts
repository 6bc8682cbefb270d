import { z } from 'zod'
import { EvenkeelError } from '../protocol/errors.ts'
import { sendProblem } from './http.ts'
import { Peers } from './peers.ts'
import { route } from './router.ts'

/** When a change takes effect. `new`: for sessions, connections and channels that begin from then on. `restart`: not before the next start. */
export type ConfigEffect = 'live' | 'new' | 'restart'

export interface ConfigChange {
  path: string
  /** Absent: it was not set, or is a secret. */
  from?: unknown
  to?: unknown
  effect: ConfigEffect
}

export const reloadOutcomes = ['applied', 'unchanged', 'invalid', 'failed'] as const
/** `invalid`: what was read has mistakes. `failed`: it could not be applied. Either changes nothing. */
export type ReloadOutcome = (typeof reloadOutcomes)[number]

export interface ReloadReport {
  outcome: 'applied' | 'unchanged' | 'planned'
  /** Of the configuration that runs, or with `planned` would run. */
  hash: string
  changes: ConfigChange[]
}

export interface ConfigMistakeView {
  source: string
  line?: number
  column?: number
  message: string
}

/** What a gateway runs with. */
export interface ConfigView {
  gateway: string
  hash: string
  /** Unix time in milliseconds, when this configuration began to hold. */
  loadedAt: number
  file: string | null
  /** Without secrets. */
  config: unknown
  /** What was read and waits for a restart. */
  pending: string[]
  /** Routes that operators have changed since the configuration was read. */
  changedRoutes: string[]
  lastReload: { at: number; outcome: ReloadOutcome; mistakes?: ConfigMistakeView[] } | null
}

export interface RouteView {
  name: string | null
  path: string
  protocol: string
  pool: string
  split: { pool: string; percent: number }[]
}

export interface RouteChange {
  pool?: string
  split?: { pool: string; percent: number }[]
}

/** The configuration of this gateway, as operators see and change it. */
export interface ConfigControl {
  /** Since the gateway started. */
  readonly reloads: Readonly<Record<ReloadOutcome, number>>
  view(): ConfigView
  /** Reads the configuration again, all of it or nothing. Rejects with CONFIG_INVALID (it has `mistakes`), CONFLICT. */
  reload(options: { dryRun: boolean }): Promise<ReloadReport>
  routes(): RouteView[]
  /** Holds until the configuration is read again. Rejects with NOT_FOUND, CONFIG_INVALID. */
  changeRoute(name: string, change: RouteChange): Promise<RouteView>
}

const reloadBody = z.strictObject({ dryRun: z.boolean().exactOptional() })
const pool = z.string().min(1).max(64)
const routeBody = z.strictObject({
  pool: pool.exactOptional(),
  split: z
    .array(z.strictObject({ pool, percent: z.number().min(0).max(100) }))
    .max(16)
    .exactOptional(),
})

export function configRoutes(config: ConfigControl, peers: Peers) {
  return [
    route({ method: 'GET', path: '/config', handle: () => ({ status: 200, body: config.view() }) }),
    route({
      method: 'POST',
      path: '/config/reload',
      body: reloadBody,
      handle: async ({ body: { dryRun = false }, response }) => {
        try {
          return { status: 200, body: await config.reload({ dryRun }) }
        } catch (error) {
          const { mistakes } = error as { mistakes?: ConfigMistakeView[] }
          if (!(error instanceof EvenkeelError) || mistakes === undefined) throw error
          sendProblem(response, error, {}, { mistakes })
          return null
        }
      },
    }),
    route({ method: 'GET', path: '/routes', handle: () => ({ status: 200, body: config.routes() }) }),
    route({
      method: 'PATCH',
      path: '/routes/:name',
      body: routeBody,
      handle: async ({ params: [name = ''], body, request }) => {
        const changed = await config.changeRoute(name, body as RouteChange)
        if (Peers.isFromPeer(request)) return { status: 200, body: changed }
        return { status: 200, body: { ...changed, gateways: await elsewhere(peers, name, body) } }
      },
    }),
  ]
}

/** Changes the route at the other gateways, too: `done`, or why not, by gateway. */
async function elsewhere(peers: Peers, name: string, body: unknown): Promise<Record<string, string>> {
  const others = peers.all().filter(({ self }) => !self)
  const results = await Promise.all(
    others.map(async (gateway): Promise<[string, string]> => {
      try {
        const answer = await peers.call(gateway, 'PATCH', `/routes/${encodeURIComponent(name)}`, body)
        const { detail } = answer.body as { detail?: string }
        return [gateway.id, answer.status === 200 ? 'done' : (detail ?? `status ${answer.status}`)]
      } catch (error) {
        return [gateway.id, (error as Error).message]
      }
    }),
  )
  return Object.fromEntries(results)
}
