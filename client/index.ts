import { clientSubprotocol } from '../src/protocol/client-frames.ts'
import { EvenkeelError } from '../src/protocol/errors.ts'
import { EvenkeelClient } from './client.ts'
import { HttpSocket } from './http-socket.ts'
import { Transports } from './transports.ts'
import type { ClientOptions } from './types.ts'

export type { ChannelMessage, ChannelVerdict, Payload } from '../src/protocol/client-frames.ts'
export { type ErrorCode, EvenkeelError } from '../src/protocol/errors.ts'
export { EvenkeelClient } from './client.ts'
export type { PlacedRunEvent, Run } from './run.ts'
export { RunError, type RunErrorCode } from './run-error.ts'
export { SendError, type SendOutcome } from './send-error.ts'
export type { RunPart } from './transcript.ts'
export type {
  ClientEvents,
  ClientOptions,
  ClientState,
  Clock,
  CloseEvent,
  CloseKind,
  DisconnectEvent,
  DisconnectKind,
  Listener,
  PageLike,
  RunOptions,
  SessionEvent,
  WebSocketConstructor,
  WebSocketLike,
} from './types.ts'

/**
 * Connects to a gateway, `ws://…/ws` or `wss://…/ws`, and keeps at it. Add the listeners before the next event-loop turn.
 * Throws BAD_REQUEST for a URL that no WebSocket takes, for a limit that is no whole number from 1, and where there is no global `WebSocket`.
 */
export function connect(url: string, options: ClientOptions = {}): EvenkeelClient {
  const Socket = options.WebSocket ?? globalThis.WebSocket
  if (Socket === undefined)
    throw new EvenkeelError('BAD_REQUEST', 'there is no global WebSocket; give one as options.WebSocket')
  for (const name of ['maxPendingBytes', 'maxPendingMessages'] as const)
    if (!isLimit(options[name]))
      throw new EvenkeelError('BAD_REQUEST', `${name} must be a whole number from 1`)
  try {
    const { fallbackUrl = fallbackOf(url) } = options
    const http = fallbackUrl === null ? null : (token?: string) => new HttpSocket(fallbackUrl, token)
    const webSocket = (token?: string) =>
      new Socket(url, [clientSubprotocol, ...(token ? [`evenkeel.jwt.${token}`] : [])])
    return new EvenkeelClient(new Transports(webSocket, http), options)
  } catch (cause) {
    // The URL is not quoted: applications put secrets into queries.
    throw new EvenkeelError('BAD_REQUEST', 'url must be an absolute ws: or wss: URL', { cause })
  }
}

/** null for a URL that does not end as those of a gateway do. */
function fallbackOf(url: string): string | null {
  const base = /^ws(s?:[^?]*)\/ws$/.exec(url)?.[1]
  return base === undefined ? null : `http${base}/sse/v1`
}

function isLimit(value: number | undefined): boolean {
  return value === undefined || (Number.isSafeInteger(value) && value >= 1)
}
