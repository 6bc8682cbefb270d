import { createPublicKey, createSecretKey, type KeyObject } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { isSymmetric, keysMistake, keyTypeOf, secretBytesLeast } from '../core/identity/algorithms.ts'
import { ConfigError, mistake, type PlacedMistake } from './config-error.ts'
import type { GatewayConfig } from './config-schema.ts'

type Jwt = NonNullable<NonNullable<GatewayConfig['auth']>['jwt']>
type Key = NonNullable<Jwt['keys']>[number]

/** Secrets and public keys as their files have them, in the order of `auth.jwt.keys`. */
export type AuthKeys = readonly string[]

const keyBytesMost = 64 * 1024

/** What does not go together in `auth`. */
export function authMistakes({ auth, channels }: GatewayConfig): PlacedMistake[] {
  if (auth === undefined)
    return channels.permissions === undefined ? [] : [mistake(['channels', 'permissions'], 'goes with auth')]
  const { jwt } = auth
  if (jwt !== undefined) return jwtMistakes(jwt)
  return auth.authorize === undefined ? [mistake(['auth'], 'give jwt, authorize, or both')] : []
}

function jwtMistakes({ keys = [], jwksUrl, jwksFile, algorithms = [] }: Jwt): PlacedMistake[] {
  const place = ['auth', 'jwt']
  const mistakes: PlacedMistake[] = []
  const sets = [jwksUrl, jwksFile].filter((one) => one !== undefined).length
  if (keys.length === 0 && sets === 0) mistakes.push(mistake(place, 'give keys, jwksUrl or jwksFile'))
  if (sets > 1 || (sets > 0 && keys.length > 0))
    mistakes.push(mistake(place, 'give one of keys, jwksUrl and jwksFile'))
  for (const [index, { secretFile, publicKeyFile }] of keys.entries())
    if ((secretFile === undefined) === (publicKeyFile === undefined))
      mistakes.push(mistake([...place, 'keys', index], 'give either secretFile or publicKeyFile'))
  const material = keys.map(({ alg, secretFile }) => ({ alg, isSecret: secretFile !== undefined }))
  const confusion = keysMistake(material, sets > 0)
  if (confusion !== null) mistakes.push(mistake([...place, 'keys'], confusion))
  const isOfSecrets = keys.some(({ alg }) => isSymmetric(alg))
  if (algorithms.some((alg) => isSymmetric(alg) !== isOfSecrets))
    mistakes.push(mistake([...place, 'algorithms'], 'HS goes with secrets only, and secrets go with HS only'))
  return mistakes
}

/** Throws ConfigError. */
export async function readAuthKeys({ auth }: GatewayConfig): Promise<AuthKeys> {
  const texts: string[] = []
  for (const [index, key] of (auth?.jwt?.keys ?? []).entries()) {
    const text = await readKey(key)
    // So that what is wrong is known before anything is started.
    keyOf(key, text, index)
    texts.push(text)
  }
  return texts
}

async function readKey({ secretFile, publicKeyFile }: Key): Promise<string> {
  const file = (secretFile ?? publicKeyFile)!
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    throw new ConfigError([
      { source: file, message: `cannot be read (${(error as NodeJS.ErrnoException).code})` },
    ])
  }
  if (text.length > keyBytesMost)
    throw new ConfigError([{ source: file, message: `is larger than ${keyBytesMost} bytes` }])
  return text.replace(/\r?\n$/, '')
}

/** Throws ConfigError. */
export function keyOf({ alg, secretFile, publicKeyFile }: Key, text: string, index: number): KeyObject {
  const source = secretFile ?? publicKeyFile ?? `auth.jwt.keys[${index}]`
  const fail = (message: string): never => {
    throw new ConfigError([{ source, message }])
  }
  if (secretFile !== undefined) {
    if (/-----BEGIN [A-Z ]*(PUBLIC KEY|CERTIFICATE)/.test(text))
      fail('holds a public key, which is no secret')
    const least = secretBytesLeast(alg)
    if (Buffer.byteLength(text) < least)
      fail(`a secret for ${alg} has at least ${least} bytes (it is not shown)`)
    return createSecretKey(Buffer.from(text))
  }
  if (/PRIVATE KEY/.test(text)) fail('holds a private key; give the public one')
  let key: KeyObject
  try {
    key = createPublicKey(text)
  } catch {
    return fail('is no public key in PEM')
  }
  const types: Record<string, string> = { rsa: 'RSA', 'rsa-pss': 'RSA', ec: 'EC', ed25519: 'OKP' }
  if (types[key.asymmetricKeyType ?? ''] !== keyTypeOf(alg))
    fail(`is a key of another type than ${alg} needs`)
  if (keyTypeOf(alg) === 'RSA' && (key.asymmetricKeyDetails?.modulusLength ?? 0) < 2_048)
    fail('an RSA key has at least 2048 bits')
  return key
}

/** In a file, a relative name means beside that file. */
export function resolveAuthFiles(raw: Record<string, unknown>, directory: string): void {
  const { jwt } = (raw.auth ?? {}) as { jwt?: unknown }
  if (typeof jwt !== 'object' || jwt === null) return
  const resolve = (owner: Record<string, unknown>, name: string) => {
    if (typeof owner[name] === 'string') owner[name] = path.resolve(directory, owner[name])
  }
  const { keys } = jwt as { keys?: unknown }
  resolve(jwt as Record<string, unknown>, 'jwksFile')
  for (const key of Array.isArray(keys) ? keys : []) {
    if (typeof key !== 'object' || key === null) continue
    resolve(key as Record<string, unknown>, 'secretFile')
    resolve(key as Record<string, unknown>, 'publicKeyFile')
  }
}
