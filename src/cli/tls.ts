import path from 'node:path'
import { Certificates } from '../edge/tls/certificates.ts'
import type { RawConfig } from './config-file.ts'
import type { GatewayConfig } from './config-schema.ts'
import type { Logger } from './logger.ts'

export type ListenerName = 'public' | 'internal'

/** TLS at one listener, and what operators see of it. */
export class ListenerTls {
  readonly listener: ListenerName
  readonly certificates: Certificates
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3'
  refused = 0

  private constructor(listener: ListenerName, certificates: Certificates, minVersion: 'TLSv1.2' | 'TLSv1.3') {
    this.listener = listener
    this.certificates = certificates
    this.minVersion = minVersion
  }

  /** null: the listener has none. Throws CONFIG_INVALID. */
  static async open(
    listener: ListenerName,
    config: GatewayConfig,
    logger: Logger,
  ): Promise<ListenerTls | null> {
    const { tls } = config[listener]
    if (tls === undefined) return null
    const { certificates: files, minVersion, reloadMs } = tls
    const certificates = await Certificates.load({
      files,
      minVersion,
      reloadMs,
      onReload: (problem) => {
        if (problem === null) logger.info({ listener }, 'certificates were read anew')
        else
          logger.warn(
            { listener, code: 'CONFIG_INVALID' },
            `${problem}; the certificates from before are used`,
          )
      },
    })
    for (const problem of certificates.problems(Date.now())) logger.warn({ listener }, problem)
    return new ListenerTls(listener, certificates, minVersion)
  }

  readonly onRefused = (): void => {
    this.refused++
  }

  /** The same for everybody, who need not know where files are. */
  hints(): string[] {
    return this.problems().length === 0 ? [] : [`${this.listener} listener: its certificates need attention`]
  }

  /** Sentences for `/readyz` of operators. */
  problems(): string[] {
    return this.certificates.problems(Date.now()).map((problem) => `${this.listener} listener: ${problem}`)
  }
}

/** In a file, a relative name means beside that file. */
export function resolveCertificateFiles(raw: RawConfig, directory: string): void {
  for (const listener of ['public', 'internal'] as const) {
    const { tls } = (raw[listener] ?? {}) as { tls?: { certificates?: Record<string, unknown>[] } | null }
    for (const one of tls?.certificates ?? []) {
      for (const key of ['certFile', 'keyFile'])
        if (typeof one[key] === 'string') one[key] = path.resolve(directory, one[key])
    }
  }
}
