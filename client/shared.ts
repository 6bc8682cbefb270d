import type { EvenkeelClient } from './client.ts'
import { connect } from './index.ts'
import { SharedClient } from './shared-client.ts'
import { SharedHost } from './shared-host.ts'
import { leaderWay, type PortLike, type SharedWorkerLike, workerWay } from './shared-ways.ts'
import type { TabWord } from './shared-words.ts'
import type { ClientOptions } from './types.ts'

export { SharedClient } from './shared-client.ts'
export type { PortLike, SharedWorkerLike } from './shared-ways.ts'

export interface SharedOptions {
  /** Tabs of an origin that say the same share a connection. Without effect with a worker, which has a name of its own. Default: the URL. */
  name?: string
  /**
   * Makes the shared worker whose module calls `hostSharedClient`. Default null: one of the tabs has the connection, as also where there are
   * no shared workers.
   */
  worker?: (() => SharedWorkerLike) | null
  /** Of the client, where one of the tabs has it. */
  client?: ClientOptions
}

/**
 * A client that the tabs of an origin share: one connection, one session. All tabs hear all events; a run or a `send` belongs to the tab that
 * began it. Throws BAD_REQUEST where the browser has neither shared workers nor Web Locks.
 */
export function connectShared(url: string, options: SharedOptions = {}): SharedClient {
  const { name = url, worker = null, client = {} } = options
  const hasWorkers = 'SharedWorker' in globalThis
  const tab = crypto.getRandomValues(new Uint32Array(4)).join('-')
  return new SharedClient(tab, (ear) =>
    worker !== null && hasWorkers
      ? workerWay(worker(), ear)
      : leaderWay(name, tab, () => connect(url, client), ear),
  )
}

/** For the module of a shared worker: its tabs share one client, for as long as there are any. Arguments as those of `connect`. */
export function hostSharedClient(url: string, options: ClientOptions = {}): void {
  const scope = globalThis as { onconnect?: ((event: { ports: readonly PortLike[] }) => void) | null }
  let client: EvenkeelClient | null = null
  let host: SharedHost
  scope.onconnect = ({ ports: [port] }) => {
    if (client === null || client.state === 'closed') {
      client = connect(url, options)
      host = new SharedHost(client)
    }
    const [own, shared] = [client, host]
    const take = shared.add({ post: (word) => port!.postMessage(word) }, () => {
      if (shared.tabs === 0) own.close()
    })
    port!.onmessage = ({ data }: { data: TabWord }) => take(data)
  }
}
