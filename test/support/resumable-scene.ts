import { onTestFinished } from 'vitest'
import { judgeHandlings, noFaults } from './ledger.ts'
import type { Attempt } from './resumable-client.ts'
import { ResumableCluster, type ResumableClusterOptions } from './resumable-cluster.ts'
import type { ResumableCrowdOptions } from './resumable-crowd.ts'
import { ResumableCrowds } from './resumable-crowds.ts'

/** Handlers that take a while, so that there is always something in flight. */
const mix = { slowShare: 0.6, slowMs: 60 }

/** What no fault of a single machine may change. */
export const nothingWrong = {
  ...noFaults,
  closed: [],
  notRecovered: {},
  rejected: {},
  unsettled: 0,
  repeated: 0,
  wrongCounts: 0,
  notes: [],
}

/** What a gateway that is gone may not change at the nodes. */
export const handledOnce = { redelivered: 0, unmarked: 0, disordered: 0, overlapping: 0, notes: [] }

/** A cluster that ends with the test. */
export async function startCluster(options: ResumableClusterOptions): Promise<ResumableCluster> {
  const cluster = await ResumableCluster.start(options)
  onTestFinished(() => cluster[Symbol.asyncDispose]())
  return cluster
}

/** Clients under load in a process of their own; they end with the test. */
export async function startCrowd(
  cluster: ResumableCluster,
  options: Pick<ResumableCrowdOptions, 'clients' | 'seed'> & Partial<ResumableCrowdOptions>,
): Promise<ResumableCrowds> {
  const load = { url: cluster.clientUrl, messagesPerSecond: 3 * options.clients, mix, lazyEvery: 4 }
  const crowd = await ResumableCrowds.connect({ ...load, ...options }, 1)
  onTestFinished(() => crowd[Symbol.asyncDispose]())
  await crowd.startSending()
  await crowd.answers(options.clients)
  return crowd
}

export const atomicNodes = (count: number) =>
  Array.from({ length: count }, () => ({ delivery: 'atomic' as const }))

/** After the load: what clients and nodes have in their books. */
export async function books(cluster: ResumableCluster, crowd: ResumableCrowds) {
  await crowd.settle()
  return { clients: await crowd.verdict(), nodes: judgeHandlings(cluster.handlings()) }
}

/** The most that came in any window of so many milliseconds. */
export function mostWithin(windowMs: number, attempts: readonly Attempt[]): number {
  const times = attempts.map(({ helloAt }) => helloAt / 1000).toSorted((a, b) => a - b)
  let first = 0
  let most = 0
  for (const [last, time] of times.entries()) {
    while (time - times[first]! >= windowMs) first++
    most = Math.max(most, last - first + 1)
  }
  return most
}
