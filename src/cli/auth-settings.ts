import type { TokenAlgorithm } from '../core/identity/algorithms.ts'
import { AuthorizeHook } from '../edge/identity/authorize-hook.ts'
import { fetchKeySet, readKeySet } from '../edge/identity/fetch-keys.ts'
import { Identification } from '../edge/identity/identification.ts'
import { FixedKeys, type KeySource, RemoteKeys } from '../edge/identity/key-set.ts'
import { TokenVerifier } from '../edge/identity/verifier.ts'
import { keyOf } from './auth-keys.ts'
import type { GatewayConfig, GatewayTokens } from './config-schema.ts'
import type { Logger } from './logger.ts'
import { onlyUpstreams } from './upstream-pools.ts'

type Jwt = NonNullable<NonNullable<GatewayConfig['auth']>['jwt']>

const algorithmsOfSets: readonly TokenAlgorithm[] = ['RS256', 'ES256', 'EdDSA']

/** How clients are identified; null: nobody asks. Throws ConfigError. */
export type Identify = (config: GatewayConfig, tokens: GatewayTokens) => Identification | null

/** Where a reload changes nothing of it, the keys and answers that it has stay: who has them may be away at that moment. */
export function identifications(logger: Logger): Identify {
  let last: { readonly said: string; readonly identification: Identification | null } | null = null
  return (config, tokens) => {
    const { auth, channels } = config
    const upstreams = Object.keys(onlyUpstreams(config))
    const said = JSON.stringify([auth, channels.permissions, upstreams, tokens.authKeys])
    if (last?.said !== said) last = { said, identification: identificationOf(config, tokens, logger) }
    return last.identification
  }
}

function identificationOf(
  config: GatewayConfig,
  { authKeys = [] }: GatewayTokens,
  logger: Logger,
): Identification | null {
  const { auth, channels } = config
  if (auth === undefined) return null
  const { jwt, authorize, claims, userHeader, claimHeaders } = auth
  const upstreams = onlyUpstreams(config)
  return new Identification({
    verifier: jwt === undefined ? null : verifierOf(jwt, authKeys, logger),
    places: jwt?.from ?? [],
    cookie: jwt?.cookie ?? '',
    required: jwt?.required ?? false,
    passOn: jwt?.passOn ?? false,
    told: {
      userHeader: userHeader.toLowerCase(),
      claimHeaders: Object.entries(claimHeaders).map(([header, claim]) => [header.toLowerCase(), claim]),
      claims,
    },
    hook:
      authorize === undefined
        ? null
        : new AuthorizeHook({
            ...authorize,
            url: new URL(authorize.url),
            headers: authorize.headers.map((name) => name.toLowerCase()),
          }),
    permissions: channels.permissions ?? null,
    isOfUpstreams: (pool) => Object.hasOwn(upstreams, pool),
  })
}

function verifierOf(jwt: Jwt, authKeys: readonly string[], logger: Logger): TokenVerifier {
  const { keys = [], algorithms, issuer, audience, skewMs, userClaim, maxLifetimeMs } = jwt
  const ofKeys = [...new Set(keys.map(({ alg }) => alg))]
  return new TokenVerifier(keysOf(jwt, authKeys, logger), {
    algorithms: algorithms ?? (keys.length > 0 ? ofKeys : algorithmsOfSets),
    issuer: listOf(issuer),
    audience: listOf(audience),
    skewMs,
    userClaim,
    maxLifetimeMs,
  })
}

function keysOf(jwt: Jwt, authKeys: readonly string[], logger: Logger): KeySource {
  const { keys = [], jwksUrl, jwksFile, jwksCacheMs, jwksCooldownMs, jwksTimeoutMs, jwksStaleMs } = jwt
  if (keys.length > 0) {
    return new FixedKeys(
      keys.map((key, index) => ({
        kid: key.kid ?? null,
        alg: key.alg,
        key: keyOf(key, authKeys[index]!, index),
      })),
    )
  }
  return new RemoteKeys({
    cacheMs: jwksCacheMs,
    cooldownMs: jwksCooldownMs,
    staleMs: jwksStaleMs,
    get: () => (jwksUrl === undefined ? readKeySet(jwksFile!) : fetchKeySet(new URL(jwksUrl), jwksTimeoutMs)),
    onProblem: (problem) => logger.warn(problem),
  })
}

function listOf(given: string | readonly string[] | undefined): readonly string[] | undefined {
  return typeof given === 'string' ? [given] : given
}
