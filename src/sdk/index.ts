import { EvenkeelNode } from './node.ts'
import type { NodeOptions } from './types.ts'

export { type ErrorCode, EvenkeelError } from '../protocol/errors.ts'
export type { ChannelHandler } from './channels.ts'
export { EvenkeelNode, type NodeEvents } from './node.ts'
export { createPresence, type Presence } from './presence.ts'
export type { RunChunk, RunContext, RunDelta, RunHandler, RunOptions } from './run-types.ts'
export type {
  CloseReason,
  Delivery,
  Json,
  Logger,
  MessageContext,
  MigratePolicy,
  NodeOptions,
  Session,
  SessionHandlers,
  SessionMeta,
} from './types.ts'

/**
 * Makes a socket-server node. Then `serve` the sessions and `start`.
 * Throws BAD_REQUEST naming the option and its allowed values.
 */
export function createNode(options: NodeOptions): EvenkeelNode {
  return new EvenkeelNode(options)
}
