import type { LoadResult, Watch } from '../load/commands.ts'
import type { Load } from '../load/handle.ts'
import type { Dialect } from '../load/wrappings.ts'
import { medianRatio } from '../measure/statistics.ts'
import { assertAlive, type Peer, type PeerName } from '../peers/peer.ts'
import type { Remarks } from '../report/remarks.ts'
import { checkLoad, checkOpened, payloadBytes, type Settings } from './scenario.ts'

export interface Sample {
  messagesPerSecond: number
  /** CPU µs per round trip. */
  gateway: number
  node: number
  total: number
  generator: number
  p50: number
  p99: number
}

export type Samples = Map<PeerName, Sample[]>

export interface Interleaving {
  peers: readonly Peer[]
  repeats: number
  connections: number
  dialect?: Dialect
  remarks: Remarks
  progress(text: string): void
  measure(watch: Watch): Promise<LoadResult>
}

/**
 * Makes each peer's code hot before the first window; at 2,000 messages per second, or in a first short window,
 * the compilers would still be at work while others are measured.
 */
export async function warmUp(
  load: Load,
  peers: readonly Peer[],
  { progress }: Settings,
  dialect: Dialect = 'plain',
): Promise<void> {
  for (const { name, port, path } of peers) {
    progress(`warming up ${name}`)
    await load.call('open', { port, path, connections: 500, payloadBytes, dialect })
    await load.call('closedLoop', { outstanding: 1, warmMs: 0, windowMs: 1_000, watch: {} })
    await load.call('close', null)
  }
}

/**
 * Every peer once, then every peer again: drift of the machine meets all of them alike. Each round starts
 * with another peer, so that none always follows the same neighbour.
 */
export async function interleave(load: Load, run: Interleaving): Promise<Samples> {
  const samples: Samples = new Map(run.peers.map(({ name }) => [name, []]))
  for (let round = 0; round < run.repeats; round++) {
    for (let i = 0; i < run.peers.length; i++) {
      const peer = run.peers[(i + round) % run.peers.length]!
      run.progress(`${peer.name}, repeat ${round + 1} of ${run.repeats}`)
      samples.get(peer.name)!.push(await sampleOf(load, peer, run))
    }
  }
  return samples
}

async function sampleOf(load: Load, peer: Peer, run: Interleaving): Promise<Sample> {
  const { port, path } = peer
  const { connections, dialect = 'plain' } = run
  const opened = await load.call('open', { port, path, connections, payloadBytes, dialect })
  checkOpened(peer.name, opened, run.remarks)
  const result = await run.measure({ gateway: [...peer.gateway], node: [...peer.node] }).catch((error) => {
    assertAlive(peer)
    throw error
  })
  await load.call('close', null)
  assertAlive(peer)
  checkLoad(peer.name, result, run.remarks)
  const perMessage = (ns: number | undefined) => (ns ?? 0) / 1000 / result.messages
  const [gateway, node] = [perMessage(result.cpuNs.gateway), perMessage(result.cpuNs.node)]
  return {
    messagesPerSecond: result.messages / result.seconds,
    gateway,
    node,
    total: gateway + node,
    generator: perMessage(result.generatorCpuNs),
    p50: result.latencyUs.p50,
    p99: result.latencyUs.p99,
  }
}

export function column(samples: Samples, peer: PeerName, key: keyof Sample): number[] {
  return (samples.get(peer) ?? []).map((sample) => sample[key])
}

export function ratioTo(reference: PeerName, samples: Samples, peer: PeerName, key: keyof Sample): number {
  return medianRatio(column(samples, peer, key), column(samples, reference, key))
}
