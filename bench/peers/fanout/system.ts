import type { Dialect } from '../../load/wrappings.ts'
import type { Child } from '../../processes.ts'
import type { Publisher } from './publisher.ts'

export type SystemName = 'evenkeel' | 'nchan' | 'socket.io'

/** Something that clients subscribe to by WebSocket, made of two processes that share the clients. */
export interface FanoutSystem {
  name: SystemName
  ports: readonly number[]
  path: string
  dialect: Dialect
  publisher: Publisher
  /** Every process between publisher and clients but Redis. The publisher too, where it is part of the system. */
  servers: readonly number[]
  redis: readonly number[]
  children: readonly Child[]
}
