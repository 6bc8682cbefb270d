import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type CryptoKey, exportJWK, exportSPKI, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { onTestFinished } from 'vitest'
import type { z } from 'zod'
import { authSchema } from '../../src/cli/auth-schema.ts'

/** One who signs tokens. */
export interface Issuer {
  readonly alg: string
  readonly kid: string
  /** As `secretFile` or `publicKeyFile` would hold it. */
  readonly text: string
  readonly jwk: Record<string, unknown>
  /** `seconds`: from now to its end, which need not be whole. */
  sign(claims?: JWTPayload, seconds?: number, header?: Record<string, unknown>): Promise<string>
}

export async function issuerOf(alg: string, kid = 'k1'): Promise<Issuer> {
  if (alg.startsWith('HS')) {
    const text = randomBytes(64).toString('base64url')
    return issuer(alg, kid, text, {}, new TextEncoder().encode(text))
  }
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
  const jwk = { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' }
  return issuer(alg, kid, await exportSPKI(publicKey), jwk, privateKey)
}

function issuer(
  alg: string,
  kid: string,
  text: string,
  jwk: Record<string, unknown>,
  key: CryptoKey | Uint8Array,
): Issuer {
  return {
    alg,
    kid,
    text,
    jwk,
    sign(claims = {}, seconds = 600, header = {}) {
      const now = Date.now() / 1_000
      return new SignJWT({ sub: 'ada', iat: Math.floor(now), exp: now + seconds, ...claims })
        .setProtectedHeader({ alg, kid, ...header })
        .sign(key)
    },
  }
}

/** Where public keys are: `keys` may be changed, and `status`; `asked` counts. It ends with the test. */
export class KeyServer {
  keys: readonly Record<string, unknown>[]
  status = 200
  asked = 0
  /** Answers wait for it. */
  hold: Promise<unknown> = Promise.resolve()
  url = ''

  private constructor(keys: readonly Record<string, unknown>[]) {
    this.keys = keys
  }

  static async start(...issuers: readonly Issuer[]): Promise<KeyServer> {
    const own = new KeyServer(issuers.map(({ jwk }) => jwk))
    const server = createServer(async (_request, response) => {
      own.asked++
      await own.hold
      response
        .writeHead(own.status, { location: 'http://127.0.0.1:1/' })
        .end(JSON.stringify({ keys: own.keys }))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => {
      server.closeAllConnections()
      server.close()
    })
    own.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`
    return own
  }

  publish(...issuers: readonly Issuer[]): void {
    this.keys = issuers.map(({ jwk }) => jwk)
  }
}

type Auth = z.input<typeof authSchema>

/** What `startTestGateway` takes for tokens of one issuer, whose key is in a file. */
export function authBy(
  { alg, kid, text }: Issuer,
  jwt: Partial<NonNullable<Auth['jwt']>> = {},
  auth: Auth = {},
): [overrides: { auth: z.output<typeof authSchema> }, tokens: { authKeys: string[] }] {
  const file = alg.startsWith('HS') ? { secretFile: 'secret' } : { publicKeyFile: 'key.pem' }
  const keys = [{ kid, alg: alg as 'HS256', ...file }]
  return [{ auth: authSchema.parse({ ...auth, jwt: { keys, ...jwt } }) }, { authKeys: [text] }]
}

/** The same for a set of keys that is kept elsewhere. */
export function authByServer(
  { url }: KeyServer,
  jwt: Partial<NonNullable<Auth['jwt']>> = {},
  auth: Auth = {},
) {
  return { auth: authSchema.parse({ ...auth, jwt: { jwksUrl: url, ...jwt } }) }
}
