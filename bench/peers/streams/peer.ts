import type { Child } from '../../processes.ts'

export type StreamPeerName = 'direct' | 'http-proxy' | 'nginx' | 'evenkeel' | 'evenkeel, coalesced'

/** The same token server behind something that clients ask. */
export interface StreamPeer {
  readonly name: StreamPeerName
  readonly port: number
  readonly path: string
  /** What stands between client and server; empty for `direct`. */
  readonly gateway: readonly number[]
  readonly server: readonly number[]
  readonly children: readonly Child[]
}
