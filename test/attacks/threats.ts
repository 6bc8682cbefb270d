import { clientThreats } from './clients.ts'
import { frameThreats } from './frames.ts'
import { httpThreats } from './http.ts'
import { insideThreats } from './inside.ts'
import { redisThreats } from './redis.ts'
import type { Threat } from './threat.ts'

/** All that is tried against a gateway with tokens, a pool of upstreams called `legacy`, and perhaps a Redis. */
export const threats: readonly Threat[] = [
  ...frameThreats,
  ...httpThreats,
  ...clientThreats,
  ...insideThreats,
  ...redisThreats,
]
