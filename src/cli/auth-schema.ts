import { z } from 'zod'
import { tokenAlgorithms } from '../core/identity/algorithms.ts'
import { tokenPlaces } from '../core/identity/shown-token.ts'
import { timerMsMax } from './choices.ts'

const text = z.string().min(1).max(255)
const file = z.string().min(1).max(4_096)
const claim = z.string().min(1).max(128)
const headerName = z.string().regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/)
const texts = z.union([text, z.array(text).min(1).max(64)])

/** What comes over plain HTTP could be anybody's; from this machine itself it is not. */
const trustedUrl = z
  .string()
  .refine((given) => {
    const url = URL.parse(given)
    if (url === null || url.username !== '' || url.password !== '' || url.hash !== '') return false
    const isLoopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(url.hostname)
    return url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback)
  }, 'expected an https: URL, or an http: one of this machine (127.0.0.1)')
  .meta({ examples: ['https://login.example.com/.well-known/jwks.json'] })

const key = z.strictObject({
  kid: text.exactOptional().describe('Name of the key, as tokens give it. Default: for tokens of any name.'),
  alg: z.enum(tokenAlgorithms).describe('What it verifies.'),
  secretFile: file.exactOptional().describe('For HS: file with the secret, at least as long as the digest.'),
  publicKeyFile: file
    .exactOptional()
    .describe('For all others: file with the public key or certificate, as PEM.'),
})

const jwt = z
  .strictObject({
    keys: z.array(key).min(1).max(64).exactOptional().describe('Keys that do not change.'),
    jwksUrl: trustedUrl
      .exactOptional()
      .describe('Where the public keys are, as a JWK set that may change. Redirects are not followed.'),
    jwksFile: file.exactOptional().describe('The same from a file, which is read again.'),
    jwksCacheMs: z
      .int()
      .min(1_000)
      .max(timerMsMax)
      .default(600_000)
      .describe('A set that is older is asked for anew.'),
    jwksCooldownMs: z
      .int()
      .min(100)
      .max(timerMsMax)
      .default(30_000)
      .describe(
        'Least time between two requests for the set, also when tokens name keys that are not in it.',
      ),
    jwksTimeoutMs: z.int().min(1).max(timerMsMax).default(5_000),
    jwksStaleMs: z
      .int()
      .min(1_000)
      .max(timerMsMax)
      .default(86_400_000)
      .describe('A set that cannot be renewed is used for so long.'),
    algorithms: z
      .array(z.enum(tokenAlgorithms))
      .min(1)
      .exactOptional()
      .describe('Those that tokens may have. Default: those of keys; with a JWK set RS256, ES256 and EdDSA.'),
    issuer: texts.exactOptional().describe('What iss must be, or one of several. Default: not looked at.'),
    audience: texts
      .exactOptional()
      .describe('What must be among aud, or one of several. Default: not looked at.'),
    skewMs: z.int().min(0).max(600_000).default(30_000).describe('By how much clocks may differ.'),
    required: z
      .boolean()
      .default(true)
      .describe(
        'Whether clients must show a token, where their route does not say otherwise (routes[].auth).',
      ),
    from: z
      .array(z.enum(tokenPlaces))
      .min(1)
      .default(['header', 'subprotocol'])
      .describe(
        'Where clients may show it; the first place that has one counts. header: Authorization: Bearer. subprotocol: evenkeel.jwt.TOKEN. query: access_token.',
      ),
    cookie: headerName.default('evenkeel-token').describe('Name of the cookie.'),
    userClaim: claim.default('sub').describe('What names the user.'),
    maxLifetimeMs: z
      .int()
      .min(1_000)
      .max(timerMsMax)
      .exactOptional()
      .describe('Longest time from iat to exp. Default: as long as the token says.'),
    passOn: z
      .boolean()
      .default(false)
      .describe('Whether those behind the gateway get the Authorization header that the token was in.'),
  })
  .describe('JSON Web Tokens that clients show.')

const authorize = z
  .strictObject({
    url: trustedUrl.describe('Asked by POST, before a client is let in.'),
    timeoutMs: z.int().min(1).max(60_000).default(1_000),
    cacheMs: z
      .int()
      .min(0)
      .max(timerMsMax)
      .default(0)
      .describe('For how long an answer counts for the same question. 0: it is asked each time.'),
    failOpen: z
      .boolean()
      .default(false)
      .describe('Whether clients are let in when there is no answer. Default: 503.'),
    headers: z
      .array(headerName)
      .max(32)
      .default([])
      .describe("Headers of the client's request that go along."),
  })
  .describe('A server that says who may come in.')

export const authSchema = z
  .strictObject({
    jwt: jwt.exactOptional(),
    authorize: authorize.exactOptional(),
    claims: z.array(claim).max(64).default([]).describe('Claims that nodes are told (session.meta.claims).'),
    userHeader: headerName
      .default('X-Evenkeel-User')
      .describe("Header in which those behind the gateway are told the user; the client's own is dropped."),
    claimHeaders: z
      .record(headerName, claim)
      .default({})
      .describe('Further headers, and the claim that each of them holds.'),
  })
  .describe('Who clients are. Default: nobody asks.')

export const channelPermissionsSchema = z
  .array(
    z.strictObject({
      match: text
        .describe(
          "A channel's name; * stands for any text, {claim} for the value of a claim, or for each of a list.",
        )
        .meta({ examples: ['user:{sub}'] }),
      allow: z
        .array(z.enum(['join', 'publish']))
        .min(1)
        .default(['join']),
      claims: z
        .record(claim, z.array(text).min(1).max(256))
        .exactOptional()
        .describe('Claims that the user must have: the value, or one of a list, is among these.'),
    }),
  )
  .max(1_000)
