import type { AdapterView, BroadcastOptions } from './views.ts'

/** Of `@socket.io/redis-adapter` and of what extends the ClusterAdapter of socket.io-adapter. */
interface Publishing {
  pubClient?: { publish(channel: string, message: unknown): unknown }
  channel?: unknown
  parser?: { encode(message: unknown): unknown }
  doPublish?(message: object): unknown
}

/** As servers call those who emit from outside: they hear what comes from there, this one too. */
const outsider = 'emitter'
const clusterBroadcast = 3
const eventPacket = 2
const flag = 'evenkeelFence'
/** Nobody is in them. Two, since some adapters have a channel of its own for each room. */
const rooms = ['evenkeel:fence', 'evenkeel:fence:']

export type Fence = readonly [session: string, term: number]

/**
 * Has all servers of the namespace hear a fence in the way of a broadcast, this one too, among the broadcasts of all. Null for an adapter of
 * which nobody knows how.
 */
export function fencePublisher(adapter: AdapterView): ((fence: Fence) => void) | null {
  const { pubClient, channel, parser, doPublish } = adapter as Publishing
  const packet = () => ({ type: eventPacket, nsp: adapter.nsp.name, data: [] })
  const options = (fence: Fence) => ({ rooms, except: [], flags: { [flag]: fence } })
  if (typeof doPublish === 'function') {
    return (fence) => {
      const data = { packet: packet(), opts: options(fence) }
      const message = { uid: outsider, nsp: adapter.nsp.name, type: clusterBroadcast, data }
      ignoreFailure(() => doPublish.call(adapter, message))
    }
  }
  if (pubClient === undefined || typeof channel !== 'string' || parser === undefined) return null
  return (fence) =>
    ignoreFailure(() => pubClient.publish(channel, parser.encode([outsider, packet(), options(fence)])))
}

/** What a broadcast is, if it is a fence. */
export function fenceOf({ flags }: BroadcastOptions): Fence | null {
  const fence = (flags as Record<string, unknown> | undefined)?.[flag]
  return Array.isArray(fence) ? [String(fence[0]), Number(fence[1])] : null
}

/** It is missed where it is waited for. */
function ignoreFailure(publish: () => unknown): void {
  void Promise.resolve(publish()).catch(() => {})
}
