import type { AdapterView } from './views.ts'

/** Of `@socket.io/redis-adapter` and of what extends the ClusterAdapter of socket.io-adapter. */
interface Publishing {
  pubClient?: { publish(channel: string, message: string): unknown }
  requestChannel?: unknown
  doPublish?(message: object): unknown
}

const redisServerSideEmit = 6
const clusterServerSideEmit = 9
/** As those who emit from outside are called there. */
const outsider = 'emitter'

export const fenceEvent = 'evenkeel:fence'

/**
 * Has all servers of the namespace hear an event by the way that broadcasts take, this one too: `serverSideEmit` tells only the others.
 * Null for an adapter of which nobody knows how.
 */
export function fencePublisher(adapter: AdapterView): ((event: unknown[]) => void) | null {
  const { pubClient, requestChannel, doPublish } = adapter as Publishing
  const failed = () => {}
  if (typeof doPublish === 'function') {
    return (packet) => {
      const message = {
        uid: outsider,
        nsp: adapter.nsp.name,
        type: clusterServerSideEmit,
        data: { packet },
      }
      void Promise.resolve(doPublish.call(adapter, message)).catch(failed)
    }
  }
  if (pubClient === undefined || typeof requestChannel !== 'string') return null
  return (data) => {
    const request = JSON.stringify({ uid: outsider, type: redisServerSideEmit, data })
    void Promise.resolve(pubClient.publish(requestChannel, request)).catch(failed)
  }
}
