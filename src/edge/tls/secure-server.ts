import type { Server as HttpServer } from 'node:http'
import { createServer, type SecureVersion, type Server, type TLSSocket } from 'node:tls'
import type { Http2Front } from '../http2/front.ts'
import type { Certificates } from './certificates.ts'

export interface PublicTls {
  readonly certificates: Certificates
  readonly minVersion: SecureVersion
  /** A handshake came to nothing. */
  onRefused(): void
}

export interface SecureServerOptions extends PublicTls {
  /** A handshake that takes longer is cut. */
  readonly handshakeMs: number
  /** Serves connections that speak HTTP/1.1; it does not listen itself. */
  readonly http1: HttpServer
  /** null: HTTP/1.1 only. */
  readonly http2: Http2Front | null
}

/** What listens in place of `http1`: TLS in front of it, and HTTP/2 beside it. */
export function createSecureServer(options: SecureServerOptions): Server {
  const { certificates, minVersion, http1, http2 } = options
  const server = createServer({
    ...certificates.first.pem,
    minVersion,
    handshakeTimeout: options.handshakeMs,
    ALPNProtocols: http2 === null ? ['http/1.1'] : ['h2', 'http/1.1'],
    SNICallback: (name, done) => done(null, certificates.contextFor(name)),
    noDelay: true,
    keepAlive: true,
  })
  certificates.onDefault = () => server.setSecureContext({ ...certificates.first.pem, minVersion })
  server.on('secureConnection', (socket: TLSSocket) => {
    if (socket.alpnProtocol === 'h2' && http2 !== null) http2.accept(socket)
    else http1.emit('connection', socket)
  })
  server.on('tlsClientError', (_error, socket) => {
    options.onRefused()
    socket.destroy()
  })
  // It begins to watch for slow requests when it hears this.
  server.on('listening', () => http1.emit('listening'))
  return server
}
