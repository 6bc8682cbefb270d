import type { NodeOptions } from '../types.ts'
import type { EmittersOptions } from './emitters.ts'

export interface SocketIoOptions extends Omit<NodeOptions, 'delivery'> {
  /**
   * `drain`: live sessions move when the node drains, and when it died. `always`: the rebalancer moves them too. An operator can
   * always move one. Default `drain`.
   */
  migrate?: 'drain' | 'always'
  /**
   * What happens to a session that this node gets without a state it can use (its node died too early, or `socket.data` could not be
   * saved). `soft`: the client's namespaces are connected anew, it sees a second `connect` with a new id and no `disconnect`. `close`:
   * it is disconnected and comes back by itself. Default `soft`.
   */
  fallback?: 'soft' | 'close'
  /**
   * Whose rooms sockets are in. `gateway`: the gateways'; the server's adapter is replaced. `adapter`: the server's own adapter's
   * (`@socket.io/redis-adapter`, say), which connects it with servers and emitters outside too; the same at all nodes of the pool. Default `gateway`.
   */
  rooms?: 'gateway' | 'adapter'
  /**
   * Where `@socket.io/redis-emitter` publishes to the sockets, with the gateways' rooms: `redis`, a URL, and `key`, as the emitters' option (default
   * `socket.io`). The same at all nodes of the pool. With `rooms: 'adapter'` emitters come by the adapter. Default: nowhere.
   */
  emitters?: EmittersOptions
  /** Before a session leaves, events that the application has not acknowledged are waited for this long. Default 0, at most 4,000. */
  quiesceMs?: number
  /** Where handlers of a session that has moved may still speak and be answered. Default 5,000, at most 5,000. */
  ghostMs?: number
  /** The state of a session whose client is busy is saved this often, for the case that the node dies. 0: with connections alone. Default 1,000. */
  saveMs?: number
  /** What the application keeps of a socket beside `socket.data`: anything that `structuredClone` takes. Throwing keeps the session here. */
  exportState?(socket: never): unknown
  /** Gives it back, before the `connection` handlers run. */
  importState?(socket: never, state: unknown): void
  /** False: the session must not leave now. A drain asks again. */
  canMove?(socket: never): boolean
}

type WithoutDefault = 'emitters' | 'exportState' | 'importState' | 'canMove'

export type CheckedOptions = Required<
  Omit<SocketIoOptions, Exclude<keyof NodeOptions, 'migrate'> | WithoutDefault>
> &
  Pick<SocketIoOptions, WithoutDefault>
