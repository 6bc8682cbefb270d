import { type Child, failure, isRunning } from '../processes.ts'

export type PeerName = 'evenkeel' | 'nginx' | 'ws-proxy' | 'direct'

/** What the echo application is made with. */
export type Application = 'plain' | 'socket.io'

/** Where bare WebSocket clients find a Socket.IO server. */
export const engineIoPath = '/socket.io/?EIO=4&transport=websocket'

/** The same echo application behind something that clients connect to. */
export interface Peer {
  name: PeerName
  port: number
  path: string
  /** What stands between client and application; empty for `direct`. */
  gateway: readonly number[]
  /** The application. */
  node: readonly number[]
  children: readonly Child[]
}

/** A process that died in the middle would only show as a strange figure. */
export function assertAlive({ children }: { readonly children: readonly Child[] }): void {
  for (const child of children)
    if (!isRunning(child))
      throw failure(child, `ended with code ${child.process.exitCode} during the measurement`)
}
