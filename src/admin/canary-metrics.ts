import { Counter, Gauge, type Registry } from 'prom-client'
import { canaryStates } from '../core/balance/canary.ts'
import type { CanaryView, SeenView } from '../gateway/canary-operator.ts'
import type { Operator } from '../gateway/operator.ts'

const prefix = 'evenkeel_canary_'

/** Of the latest canary of each pool; what is counted is of all gateways. */
export function registerCanaries(registry: Registry, operator: Operator): void {
  const labels = ({ pool, version }: CanaryView) => ({ pool, version })
  const gauge = (name: string, help: string, value: (canary: CanaryView) => number) =>
    new Gauge({
      name: prefix + name,
      help,
      labelNames: ['pool', 'version'],
      registers: [registry],
      collect() {
        this.reset()
        for (const canary of latest(operator)) this.set(labels(canary), value(canary))
      },
    })
  const seen = (name: string, help: string, value: (side: SeenView) => number) =>
    new Gauge({
      name: prefix + name,
      help,
      labelNames: ['pool', 'version', 'side'],
      registers: [registry],
      collect() {
        this.reset()
        for (const canary of latest(operator)) {
          for (const side of ['canary', 'others'] as const)
            this.set({ ...labels(canary), side }, value(canary.seen[side]))
        }
      },
    })

  gauge('share_ratio', 'Part of the pool that the version is to have.', ({ percent }) => percent / 100)
  gauge('sessions', 'Sessions at nodes of the version, over all gateways.', ({ sessions }) => sessions)
  gauge('sessions_left', 'Sessions that are to be moved yet.', ({ left }) => left)
  seen(
    'failures',
    'Failures since the watch began: of the version, and of the others.',
    ({ failures }) => failures,
  )
  seen('session_seconds', 'Time of sessions since the watch began.', ({ sessionSeconds }) => sessionSeconds)
  new Gauge({
    name: `${prefix}state`,
    help: '1 for the state in which the canary is, 0 for the others.',
    labelNames: ['pool', 'version', 'state'],
    registers: [registry],
    collect() {
      this.reset()
      for (const canary of latest(operator)) {
        for (const state of canaryStates)
          this.set({ ...labels(canary), state }, state === canary.state ? 1 : 0)
      }
    },
  })
  new Counter({
    name: `${prefix}moves_total`,
    help: 'Moves for the sake of the canary, over all gateways.',
    labelNames: ['pool', 'version', 'direction'],
    registers: [registry],
    collect() {
      this.reset()
      for (const canary of latest(operator)) {
        this.inc({ ...labels(canary), direction: 'to' }, canary.moved)
        this.inc({ ...labels(canary), direction: 'back' }, canary.returned)
      }
    },
  })
}

function latest(operator: Operator): CanaryView[] {
  const pools = new Map<string, CanaryView>()
  for (const canary of operator.canaries.list()) if (!pools.has(canary.pool)) pools.set(canary.pool, canary)
  return [...pools.values()]
}
