import { EvenkeelError } from '../../protocol/errors.ts'
import { EvenkeelNode } from '../node.ts'
import type { CheckedOptions, SocketIoOptions } from './options.ts'
import { SocketIoNode } from './socket-io-node.ts'
import type { ServerView } from './views.ts'

export { type ErrorCode, EvenkeelError } from '../../protocol/errors.ts'
export type { EvenkeelNode } from '../node.ts'
export type { Logger } from '../types.ts'
export type { EmittersOptions } from './emitters.ts'
export type { SocketIoOptions } from './options.ts'

export interface AttachedServer {
  readonly node: EvenkeelNode
  /** Resolves with the first link to a gateway; rejects as `EvenkeelNode.start` does. What nobody awaits is logged. */
  readonly ready: Promise<void>
  /** Moves all sessions to other nodes, waits for handlers that still run, and closes the links. */
  drain(): Promise<void>
  /** Closes the links at once; the gateways give the sessions to other nodes as they were saved last. */
  stop(): Promise<void>
}

const mostQuiesceMs = 4_000
const mostGhostMs = 5_000

/**
 * Makes a Socket.IO server (4.6 to 4.8) a node: its clients connect to the gateways' `/socket.io/`, their sessions are held there, and move to other
 * nodes of the pool while the clients stay connected. To be called before clients come; it dials at once.
 * Throws BAD_REQUEST naming the option, or what about the server does not fit.
 */
export function attachSocketIO(
  io: { bind(engine: never): unknown },
  options: SocketIoOptions,
): AttachedServer {
  const server = io as unknown as ServerView
  checkServer(server)
  const {
    migrate = 'drain',
    fallback,
    rooms,
    emitters,
    quiesceMs,
    ghostMs,
    saveMs,
    exportState,
    importState,
    canMove,
    ...rest
  } = options
  const checked = check({
    migrate,
    fallback: fallback ?? 'soft',
    rooms: rooms ?? 'gateway',
    quiesceMs: quiesceMs ?? 0,
    ghostMs: ghostMs ?? mostGhostMs,
    saveMs: saveMs ?? 1_000,
    ...(emitters === undefined ? {} : { emitters }),
    ...(exportState === undefined ? {} : { exportState }),
    ...(importState === undefined ? {} : { importState }),
    ...(canMove === undefined ? {} : { canMove }),
  })
  const node = new EvenkeelNode({ ...rest, delivery: 'stream', migrate })
  const logger = options.logger ?? console
  let stopped = false
  const served = new SocketIoNode(node, server, checked, logger)
  node.serve(served)
  // Whoever is linked may be the one that casts what emitters publish.
  const ready =
    checked.emitters === undefined
      ? node.start()
      : served.begin().then(() => (stopped ? undefined : node.start()))
  ready.catch((error: unknown) => logger.error(`node ${node.id}: ${String((error as Error).message)}`))
  const stop = async () => {
    stopped = true
    served.stop()
    await node.stop()
  }
  return { node, ready, drain: () => node.drain(), stop }
}

function check(options: CheckedOptions): CheckedOptions {
  const { migrate, fallback, rooms, emitters, quiesceMs, ghostMs, saveMs } = options
  if (migrate !== 'drain' && migrate !== 'always') throw invalid("migrate must be 'drain' or 'always'")
  if (fallback !== 'soft' && fallback !== 'close') throw invalid("fallback must be 'soft' or 'close'")
  if (rooms !== 'gateway' && rooms !== 'adapter') throw invalid("rooms must be 'gateway' or 'adapter'")
  if (emitters !== undefined && rooms === 'adapter')
    throw invalid("emitters reach sockets by the adapter already; leave 'emitters' out with rooms: 'adapter'")
  if (!(quiesceMs >= 0 && quiesceMs <= mostQuiesceMs))
    throw invalid(`quiesceMs must be 0 to ${mostQuiesceMs}`)
  if (!(ghostMs >= 0 && ghostMs <= mostGhostMs)) throw invalid(`ghostMs must be 0 to ${mostGhostMs}`)
  if (!(saveMs >= 0)) throw invalid('saveMs must be 0 or more')
  return options
}

/** Other versions may lack what is used of them; other parsers write packets that could not be told apart. */
function checkServer(server: ServerView): void {
  const namespace = server.sockets
  if (
    typeof namespace?._createSocket !== 'function' ||
    typeof namespace._doConnect !== 'function' ||
    typeof server._parser?.Decoder !== 'function'
  ) {
    throw invalid('this is no Socket.IO server of version 4.6 to 4.8')
  }
  const [packet] = server.encoder.encode({ type: 2, nsp: '/', data: ['x'] })
  if (packet !== '2["x"]')
    throw invalid('a Socket.IO server with a parser of its own cannot be attached; use the default one')
}

function invalid(why: string): EvenkeelError {
  return new EvenkeelError('BAD_REQUEST', why)
}
