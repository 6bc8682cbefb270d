import { stat } from 'node:fs/promises'
import type { SecureContext, SecureVersion } from 'node:tls'
import { ServerNames } from '../../core/net/server-names.ts'
import { type Certificate, type CertificateFiles, loadCertificate, warningOf } from './certificate.ts'

export interface CertificatesOptions {
  /** The first one is for clients that ask for no name, or for one that is in none. */
  readonly files: readonly CertificateFiles[]
  readonly minVersion: SecureVersion
  /** Milliseconds between looks at the files; 0: only when `reload` is called. */
  readonly reloadMs: number
  /** They were read anew, or could not be: then `problem` says why, and those from before are used. */
  onReload(problem: string | null): void
}

/** The certificates of one listener. They are read anew when their files change; what cannot be used changes nothing. */
export class Certificates {
  private readonly options: CertificatesOptions
  private loaded: readonly [Certificate, ...Certificate[]]
  private names: ServerNames<SecureContext>
  private seen: string
  private problem: string | null = null
  private timer: NodeJS.Timeout | null = null
  private loading: Promise<void> | null = null
  /** Called when the first one is another one. */
  onDefault: () => void = () => {}
  reloads = 0
  failures = 0

  private constructor(options: CertificatesOptions, loaded: readonly Certificate[], seen: string) {
    this.options = options
    this.loaded = loaded as [Certificate, ...Certificate[]]
    this.names = namesOf(this.loaded)
    this.seen = seen
    if (options.reloadMs > 0) this.timer = setInterval(() => void this.look(), options.reloadMs).unref()
  }

  /** Throws CONFIG_INVALID. */
  static async load(options: CertificatesOptions): Promise<Certificates> {
    const seen = await stamps(options.files)
    return new Certificates(options, await loadAll(options), seen)
  }

  get all(): readonly Certificate[] {
    return this.loaded
  }

  get first(): Certificate {
    return this.loaded[0]
  }

  /** Sentences for the operator. `now`: Unix time in milliseconds. */
  problems(now: number): string[] {
    const expired = this.loaded.flatMap((certificate) => warningOf(certificate, now) ?? [])
    return this.problem === null
      ? expired
      : [`${this.problem}; the certificates from before are used`, ...expired]
  }

  contextFor(serverName: string): SecureContext {
    return this.names.find(serverName)
  }

  /** Reads the files whether or not they have changed. Never throws. */
  async reload(): Promise<void> {
    await this.loading
    this.loading = this.readAnew(await stamps(this.options.files))
    await this.loading
    this.loading = null
  }

  close(): void {
    if (this.timer !== null) clearInterval(this.timer)
  }

  private async look(): Promise<void> {
    if (this.loading === null && (await stamps(this.options.files)) !== this.seen && this.loading === null)
      await this.reload()
  }

  private async readAnew(seen: string): Promise<void> {
    // Also when it fails: it is tried again when the files change again, as they do when only one of a pair was there.
    this.seen = seen
    try {
      this.loaded = (await loadAll(this.options)) as [Certificate, ...Certificate[]]
      this.names = namesOf(this.loaded)
      this.problem = null
      this.reloads++
      this.onDefault()
    } catch (error) {
      this.problem = (error as Error).message
      this.failures++
    }
    this.options.onReload(this.problem)
  }
}

function loadAll({ files, minVersion }: CertificatesOptions): Promise<Certificate[]> {
  return Promise.all(files.map((pair) => loadCertificate(pair, minVersion)))
}

function namesOf(loaded: readonly [Certificate, ...Certificate[]]): ServerNames<SecureContext> {
  const [first, ...others] = loaded.map(({ names, context }) => ({ names, value: context }))
  return new ServerNames([first!, ...others])
}

/** What tells that a file is another one. Programs that renew certificates write them in place, or swap links. */
async function stamps(files: readonly CertificateFiles[]): Promise<string> {
  const names = files.flatMap(({ certFile, keyFile }) => [certFile, keyFile])
  const found = await Promise.all(
    names.map(async (name) => {
      try {
        const { mtimeMs, ctimeMs, size, ino } = await stat(name)
        return `${mtimeMs} ${ctimeMs} ${size} ${ino}`
      } catch (error) {
        return (error as NodeJS.ErrnoException).code ?? 'gone'
      }
    }),
  )
  return found.join('\n')
}
