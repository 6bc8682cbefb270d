import { readFile, stat } from 'node:fs/promises'
import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'

/** A set of keys has some KB. */
const bytesMost = 256 * 1024

/**
 * The text at a URL. Redirects are not followed: where keys come from is for the operator to say, not for who answers.
 * Throws when it is not there whole within `timeoutMs`.
 */
export function fetchKeySet(url: URL, timeoutMs: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const signal = AbortSignal.timeout(timeoutMs)
  const ask = url.protocol === 'https:' ? requestHttps : requestHttp
  const headers = { accept: 'application/jwk-set+json, application/json' }
  const asked = ask(url, { signal, headers, agent: false }, (answer) => {
    if (answer.statusCode !== 200) {
      answer.destroy()
      reject(new Error(`status ${answer.statusCode}`))
      return
    }
    const chunks: Buffer[] = []
    let bytes = 0
    answer.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > bytesMost) answer.destroy(new Error(`more than ${bytesMost} bytes`))
      else chunks.push(chunk)
    })
    answer.on('error', reject)
    answer.on('end', () => resolve(Buffer.concat(chunks).toString()))
  })
  asked.on('error', reject)
  asked.end()
  return promise
}

/** Throws when it cannot be read. */
export async function readKeySet(file: string): Promise<string> {
  const { size } = await stat(file)
  if (size > bytesMost) throw new Error(`more than ${bytesMost} bytes`)
  return await readFile(file, 'utf8')
}
