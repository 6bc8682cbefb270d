import { randomBytes } from 'node:crypto'
import { onTestFinished } from 'vitest'
import type { GatewayEntry } from '../../src/cluster/entry.ts'
import type { ClusterMember } from '../../src/cluster/member.ts'
import { joinRedis, type RedisOptions } from '../../src/cluster/redis.ts'
import type { Registry, RegistryChange } from '../../src/cluster/registry.ts'
import type { EvenkeelError } from '../../src/protocol/errors.ts'
import type { Position } from '../../src/protocol/position.ts'
import { Recorder } from './recorder.ts'

/** Short leases, so that tests need not wait long; their ratio is that of the defaults or safer. */
export const testLimits = { leaseMs: 1_200, leaseRefreshMs: 300, heartbeatMs: 300 }

export function randomPrefix(): string {
  return `t${randomBytes(6).toString('hex')}:`
}

/** A member that leaves with the test, and the problems it reported. */
export async function joinRedisInTest(
  url: string,
  options: Partial<RedisOptions> = {},
): Promise<ClusterMember & { problems: Recorder<EvenkeelError> }> {
  const problems = new Recorder<EvenkeelError>()
  const { limits, ...rest } = options
  const member = await joinRedis({
    url,
    limits: { ...testLimits, ...limits },
    onProblem: problems.add,
    ...rest,
  })
  onTestFinished(() => member.close())
  return { ...member, problems }
}

export function gatewayEntry(id: string, changes: Partial<GatewayEntry> = {}): GatewayEntry {
  return {
    kind: 'gateway',
    id,
    instance: `instance-of-${id}`,
    internalUrl: 'ws://127.0.0.1:8081',
    startedAt: 1_700_000_000_000,
    state: 'active',
    ...changes,
  }
}

/** Every change that a registry reports, as `joined gateway/a`. */
export function recordChanges(registry: Registry): Recorder<string> & { changes: RegistryChange[] } {
  const recorder = Object.assign(new Recorder<string>(), { changes: [] as RegistryChange[] })
  const stop = registry.watch((changes) => {
    for (const change of changes) {
      recorder.changes.push(change)
      recorder.add(`${change.type} ${change.entry.kind}/${change.entry.id}`)
    }
  })
  onTestFinished(stop)
  return recorder
}

export interface Received {
  channel: string
  text: boolean
  payload: Buffer
  position: Position | null
}

/** Subscribes and keeps what comes. */
export async function recordChannel(
  { bus }: Pick<ClusterMember, 'bus'>,
  channel: string,
): Promise<Recorder<Received> & { live: boolean }> {
  const recorder = new Recorder<Received>()
  const live = await bus.subscribe(channel, (payload, text, position) => {
    recorder.add({ channel, text, payload: Buffer.from(payload), position })
  })
  return Object.assign(recorder, { live })
}

export function texts(recorder: Recorder<Received>): string[] {
  return recorder.items.map(({ payload }) => payload.toString())
}
