import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { clientBehind, type SeenClient, type TrustRules } from '../core/net/forwarded.ts'
import { peerAddress } from './peer-address.ts'

/** Of requests that have come through a trusted proxy. */
const seen = new WeakMap<IncomingMessage, SeenClient>()

/** Finds out who has sent the request, before anybody asks. null: nobody in between is trusted. */
export function noteClient(request: IncomingMessage, trust: TrustRules | null): void {
  if (trust === null) return
  const { headers } = request
  const text = (name: string) => String(headers[name] ?? '')
  const client = clientBehind(
    peerOf(request),
    {
      forwarded: text('forwarded'),
      xForwardedFor: text('x-forwarded-for'),
      xForwardedProto: text('x-forwarded-proto'),
      xForwardedHost: text('x-forwarded-host'),
    },
    trust,
  )
  if (client !== null) seen.set(request, client)
}

/** Whoever has sent the request, as far as can be trusted. */
export function clientAddress(request: IncomingMessage): string {
  return seen.get(request)?.address ?? peerOf(request)
}

/** How the client has asked, before any proxy. */
export function clientProto(request: IncomingMessage): 'http' | 'https' {
  return seen.get(request)?.proto ?? ((request.socket as TLSSocket).encrypted === true ? 'https' : 'http')
}

/** Whom the client has asked; '' when it has not said. */
export function clientHost(request: IncomingMessage): string {
  return seen.get(request)?.host ?? request.headers.host ?? ''
}

/** The other end of the connection, or whom that has named by the PROXY protocol. */
function peerOf({ socket }: IncomingMessage): string {
  return peerAddress(socket)
}
