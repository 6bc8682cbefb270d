import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext, type SecureContext, type SecureVersion } from 'node:tls'
import { EvenkeelError } from '../../protocol/errors.ts'

export interface CertificateFiles {
  /** PEM: the certificate, and behind it those that lead to its root. */
  readonly certFile: string
  /** PEM, without a passphrase. */
  readonly keyFile: string
  /** Server names that it is for. Default: those in it. */
  readonly names?: readonly string[]
}

export interface Certificate {
  readonly files: CertificateFiles
  readonly names: readonly string[]
  readonly context: SecureContext
  readonly pem: { readonly cert: Buffer; readonly key: Buffer }
  /** Unix time in milliseconds. */
  readonly notBefore: number
  readonly notAfter: number
}

const fileBytesMost = 256 * 1024

/** Reads and checks a pair of files. Throws CONFIG_INVALID, which names the file and what is wrong with it. */
export async function loadCertificate(
  files: CertificateFiles,
  minVersion: SecureVersion,
): Promise<Certificate> {
  const { certFile, keyFile } = files
  const [cert, key] = await Promise.all([readPem(certFile), readPem(keyFile)])
  const parsed = attempt(certFile, 'holds no certificate in PEM', () => new X509Certificate(cert))
  const secret = attempt(keyFile, 'holds no private key in PEM without a passphrase', () =>
    createPrivateKey(key),
  )
  if (!isPair(parsed, secret)) throw invalid(keyFile, `is not the key of the certificate in ${certFile}`)
  // What OpenSSL refuses beyond that: a chain that cannot be read, a key that is too short.
  const context = attempt(certFile, 'cannot be used', () => createSecureContext({ cert, key, minVersion }))
  return {
    files,
    names: files.names ?? namesOf(parsed),
    context,
    pem: { cert, key },
    notBefore: Date.parse(parsed.validFrom),
    notAfter: Date.parse(parsed.validTo),
  }
}

/** What is to be said of a certificate that is used all the same; null: nothing. `now`: Unix time in milliseconds. */
export function warningOf({ files, notBefore, notAfter }: Certificate, now: number): string | null {
  if (now > notAfter) return `the certificate in ${files.certFile} has expired on ${day(notAfter)}`
  if (now < notBefore) return `the certificate in ${files.certFile} is not valid before ${day(notBefore)}`
  return null
}

function day(at: number): string {
  return new Date(at).toISOString()
}

function isPair(certificate: X509Certificate, key: KeyObject): boolean {
  try {
    return certificate.checkPrivateKey(key)
  } catch {
    return false
  }
}

/** The common name counts only without alternative names (RFC 9525 §6.4.4 does not know it any more). */
function namesOf({ subjectAltName, subject }: X509Certificate): string[] {
  const alternative = (subjectAltName ?? '')
    .split(', ')
    .flatMap((entry) => /^DNS:(.+)$/.exec(entry)?.[1] ?? [])
  if (subjectAltName !== undefined) return alternative
  const common = /^CN=(.+)$/m.exec(subject)?.[1]
  return common === undefined ? [] : [common]
}

async function readPem(file: string): Promise<Buffer> {
  let bytes: Buffer
  try {
    bytes = await readFile(file)
  } catch (error) {
    throw invalid(file, `cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`)
  }
  if (bytes.length > fileBytesMost) throw invalid(file, `is larger than ${fileBytesMost} bytes`)
  return bytes
}

function attempt<T>(file: string, otherwise: string, make: () => T): T {
  try {
    return make()
  } catch (error) {
    // OpenSSL's own words name no secret, and often the reason.
    const reason = (error as { reason?: string }).reason
    throw invalid(file, reason === undefined ? otherwise : `${otherwise} (${reason})`)
  }
}

function invalid(file: string, what: string): EvenkeelError {
  return new EvenkeelError('CONFIG_INVALID', `TLS: ${file} ${what}`)
}
