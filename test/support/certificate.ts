import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

/** A key and a certificate that nobody has signed, for these names. */
export function createCertificate(...names: string[]): { key: string; cert: string } {
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-certificate-'))
  try {
    const [keyFile, certFile] = ['key', 'cert'].map((name) => path.join(directory, name)) as [string, string]
    const wanted = ['-subj', `/CN=${names[0]}`, '-days', '2', '-nodes']
    const alternatives = ['-addext', `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}`]
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']
    const files = ['-keyout', keyFile, '-out', certFile]
    execFileSync('openssl', ['req', '-x509', ...curve, ...wanted, ...alternatives, ...files], {
      stdio: 'ignore',
    })
    return { key: readFileSync(keyFile, 'utf8'), cert: readFileSync(certFile, 'utf8') }
  } finally {
    rmSync(directory, { recursive: true })
  }
}
