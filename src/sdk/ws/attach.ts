import { EvenkeelError } from '../../protocol/errors.ts'
import { EvenkeelNode } from '../node.ts'
import type { NodeOptions } from '../types.ts'
import { Attachment, type VerifyClient } from './attachment.ts'
import { sessionSocketClass, type WebSocketClass } from './session-socket.ts'

/** What is used of a `ws` server, of whatever version. */
export interface WebSocketServerLike {
  readonly options: object
  /** Absent with `clientTracking: false`. */
  readonly clients?: Set<unknown>
  emit(event: 'connection', socket: unknown, request: unknown): boolean
}

export interface AttachOptions extends Omit<NodeOptions, 'delivery'> {
  /** Default `drain`: sessions keep their place until the node is drained, since what the application knows of them stays behind. */
  migrate?: NonNullable<NodeOptions['migrate']>
  /**
   * Runs for each new session, as that of `ws`; a client that is turned away is closed with 1008. Default: the server's own `verifyClient`.
   * An `upgrade` handler of the application does not run for sessions, so what it checks is to be checked here.
   */
  verifyClient?: VerifyClient
  /** A client for which more than this waits is closed with 4008. Default 16 MiB. */
  maxBufferedBytes?: number
  /**
   * The next message of a session waits until the promises that `message` listeners have returned for the last one settle, and only then
   * is it done: if the node dies before, another one gets it again. Default false, as with `ws`: listeners run beside each other, and a message is done
   * when they have returned.
   */
  sequential?: boolean
  /** The class that sockets extend. Only for versions of `ws` whose server does not say it (before 8.5). */
  WebSocket?: unknown
}

const maxBufferedBytesDefault = 16 * 1024 * 1024

/**
 * Makes a plain `ws` application a node: each session comes as a `connection` of `wss`. Resolves with the first link to a gateway.
 * Throws what `createNode` and `start` throw.
 */
export async function attachWebSocketServer(
  wss: WebSocketServerLike,
  options: AttachOptions,
): Promise<EvenkeelNode> {
  const {
    verifyClient,
    maxBufferedBytes = maxBufferedBytesDefault,
    sequential = false,
    WebSocket,
    ...nodeOptions
  } = options
  if (!(Number.isSafeInteger(maxBufferedBytes) && maxBufferedBytes > 0))
    throw new EvenkeelError('BAD_REQUEST', 'maxBufferedBytes must be a whole number from 1')
  const ofServer = wss?.options as { WebSocket?: unknown; verifyClient?: VerifyClient | null } | undefined
  const Base = WebSocket ?? ofServer?.WebSocket
  if (typeof Base !== 'function') {
    throw new EvenkeelError(
      'BAD_REQUEST',
      'the first argument must be a WebSocketServer of ws; with ws before 8.5 also pass its class: { WebSocket }',
    )
  }
  const logger = options.logger ?? console
  const attachment = new Attachment(sessionSocketClass(Base as WebSocketClass), {
    wss,
    verifyClient: verifyClient ?? ofServer?.verifyClient ?? null,
    maxBufferedBytes,
    sequential,
    warn: (message) => logger.warn(`node ${options.id}: ${message}`),
    error: (message) => logger.error(`node ${options.id}: ${message}`),
  })
  const node = new EvenkeelNode({ migrate: 'drain', ...nodeOptions })
  node.serve(attachment.handlers)
  await node.start()
  return node
}
