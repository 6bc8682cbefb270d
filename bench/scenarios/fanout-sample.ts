import type { DeliveryResult } from '../load/commands.ts'
import type { Load } from '../load/handle.ts'
import { cpuNsOf } from '../measure/cpu.ts'
import type { Pace } from '../peers/fanout/publisher.ts'
import type { FanoutSystem } from '../peers/fanout/system.ts'
import { assertAlive } from '../peers/peer.ts'
import { messageOf, type Remarks } from '../report/remarks.ts'
import type { Settings } from './scenario.ts'

export interface Manner {
  title: string
  /** Messages published in one event-loop turn. */
  burst: number
  /** The same for all systems, and low enough for clients to keep up: a write to one that has not read yet costs the server less. */
  deliveriesPerSecond: number
}

export interface Sample {
  /** CPU µs per delivery. */
  servers: number
  redis: number
  total: number
  generator: number
  /** From publishing to the client's read, in ms. */
  p50: number
  p99: number
  /** Above 1 where messages of a burst reached a client together. */
  deliveriesPerRead: number
}

export interface SampleOptions {
  subscribers: number
  manners: readonly Manner[]
  warmMs: number
  windowMs: number
  remarks: Remarks
}

const subscribedTimeoutMs = 15_000
const deliveredTimeoutMs = 10_000

/**
 * Makes each system's code hot, or its first window would measure the compilers: after fewer deliveries Evenkeel and
 * socket.io still got cheaper from window to window.
 */
export async function warmUp(
  load: Load,
  systems: readonly FanoutSystem[],
  manners: readonly Manner[],
  settings: Settings,
  remarks: Remarks,
): Promise<void> {
  const options = { subscribers: 1_000, manners, warmMs: 0, windowMs: 2_000, remarks }
  for (const system of systems) {
    settings.progress(`warming up ${system.name}`)
    await measureSystem(load, system, options)
  }
}

/** One sample for each manner, over the same connections; null from the first one in which a delivery was wrong. */
export async function measureSystem(
  load: Load,
  system: FanoutSystem,
  options: SampleOptions,
): Promise<(Sample | null)[]> {
  const samples: Sample[] = []
  try {
    assertAlive(system)
    await subscribeAll(load, system, options.subscribers)
    for (const manner of options.manners) samples.push(await sampleOf(load, system, manner, options))
    assertAlive(system)
  } catch (error) {
    options.remarks.failures.push(`${system.name}, ${options.subscribers} subscribers: ${messageOf(error)}`)
  }
  await load.call('close', null)
  return options.manners.map((_, i) => samples[i] ?? null)
}

async function subscribeAll(load: Load, system: FanoutSystem, connections: number): Promise<void> {
  const { ports, path, dialect, publisher } = system
  const { failed, notes } = await load.call('subscribe', { ports, path, dialect, connections })
  if (failed > 0) throw new Error(`${failed} handshakes failed (${notes[0] ?? 'no answer'})`)
  // A handshake says nothing of the subscription; a message that reaches everybody does.
  const deadline = performance.now() + subscribedTimeoutMs
  for (let lacking = connections; lacking > 0; ) {
    if (performance.now() > deadline) throw new Error(`${lacking} clients were not subscribed in time`)
    await publisher.publish({ ticks: 1, perSecond: 1, burst: 1 })
    lacking = await load.call('lacking', { sequence: publisher.last, timeoutMs: 500 })
  }
}

async function sampleOf(
  load: Load,
  system: FanoutSystem,
  manner: Manner,
  { subscribers, warmMs, windowMs }: SampleOptions,
): Promise<Sample> {
  await publishToAll(load, system, paceOf(manner, subscribers, warmMs))
  const { servers, redis } = system
  await load.call('beginDeliveries', null)
  const before = [cpuNsOf(servers), cpuNsOf(redis)] as const
  const measured = paceOf(manner, subscribers, windowMs)
  await publishToAll(load, system, measured)
  const after = [cpuNsOf(servers), cpuNsOf(redis)] as const
  const result = await load.call('endDeliveries', null)
  checkDeliveries(result, subscribers * measured.ticks * manner.burst)
  const perDelivery = (ns: number) => ns / 1_000 / result.deliveries
  return {
    servers: perDelivery(after[0] - before[0]),
    redis: perDelivery(after[1] - before[1]),
    total: perDelivery(after[0] + after[1] - before[0] - before[1]),
    generator: perDelivery(result.generatorCpuNs),
    p50: result.latencyUs.p50 / 1_000,
    p99: result.latencyUs.p99 / 1_000,
    deliveriesPerRead: result.deliveries / result.reads,
  }
}

export function publishesPerSecond({ burst, deliveriesPerSecond }: Manner, subscribers: number): number {
  return deliveriesPerSecond / subscribers / burst
}

function paceOf(manner: Manner, subscribers: number, ms: number): Pace {
  const perSecond = publishesPerSecond(manner, subscribers)
  return { ticks: Math.max(2, Math.round((ms / 1_000) * perSecond)), perSecond, burst: manner.burst }
}

/** Nothing is under way before or after, so that the CPU time between the two belongs to these messages. */
async function publishToAll(load: Load, { publisher }: FanoutSystem, pace: Pace): Promise<void> {
  await publisher.publish(pace)
  const request = { sequence: publisher.last, timeoutMs: deliveredTimeoutMs }
  const lacking = await load.call('lacking', request)
  if (lacking > 0) throw new Error(`${lacking} clients did not get message ${publisher.last} in time`)
}

function checkDeliveries({ deliveries, closed, wrong, notes }: DeliveryResult, expected: number): void {
  if (deliveries === expected && closed + wrong === 0) return
  const details = notes.length === 0 ? '' : ` (${notes.slice(0, 3).join('; ')})`
  throw new Error(`${deliveries} of ${expected} deliveries, ${wrong} wrong, ${closed} clients lost${details}`)
}
