import { Counter, Gauge, type Registry } from 'prom-client'

/** What metrics tell of TLS at one listener. */
export interface TlsSource {
  readonly listener: string
  readonly certificates: {
    readonly all: readonly { readonly files: { readonly certFile: string }; readonly notAfter: number }[]
    readonly reloads: number
    readonly failures: number
  }
  readonly refused: number
}

/** The same of HTTP/2 at the public listener. */
export interface Http2Source {
  readonly connections: number
  readonly streams: number
  readonly counters: object
}

export interface EncryptionSources {
  readonly tls: readonly TlsSource[]
  readonly http2: Http2Source | null
}

export function registerEncryption(
  registry: Registry,
  prefix: string,
  { tls, http2 }: EncryptionSources,
): void {
  if (tls.length > 0) registerTls(registry, prefix, tls)
  if (http2 !== null) registerHttp2(registry, prefix, http2)
}

function registerTls(registry: Registry, prefix: string, sources: readonly TlsSource[]): void {
  new Gauge({
    name: `${prefix}tls_certificate_expiry_seconds`,
    help: 'Time until the certificate expires; below 0, since it has.',
    labelNames: ['listener', 'file'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { listener, certificates } of sources) {
        for (const { files, notAfter } of certificates.all)
          this.set({ listener, file: files.certFile }, (notAfter - Date.now()) / 1000)
      }
    },
  })
  new Counter({
    name: `${prefix}tls_reloads_total`,
    help: 'Times that certificates were read anew, by result; failed: those from before are used.',
    labelNames: ['listener', 'result'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { listener, certificates } of sources) {
        this.inc({ listener, result: 'ok' }, certificates.reloads)
        this.inc({ listener, result: 'failed' }, certificates.failures)
      }
    },
  })
  new Counter({
    name: `${prefix}tls_handshakes_failed_total`,
    help: 'TLS handshakes that came to nothing, or not in time.',
    labelNames: ['listener'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { listener, refused } of sources) this.inc({ listener }, refused)
    },
  })
}

function registerHttp2(registry: Registry, prefix: string, source: Http2Source): void {
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name: prefix + name,
      help,
      registers: [registry],
      collect() {
        this.set(value())
      },
    })
  gauge('http2_connections', 'HTTP/2 connections of clients.', () => source.connections)
  gauge('http2_streams', 'Requests that are open on them.', () => source.streams)
  new Counter({
    name: `${prefix}http2_abuse_total`,
    help: 'HTTP/2 connections that were closed for what they did too often: resets, frames that want an answer.',
    labelNames: ['cause'],
    registers: [registry],
    collect() {
      this.reset()
      for (const [cause, count] of Object.entries(source.counters)) this.inc({ cause }, count)
    },
  })
}
