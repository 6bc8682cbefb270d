import { parseBlock } from '../core/net/address.ts'
import type { TrustRules } from '../core/net/forwarded.ts'
import { mistake, type PlacedMistake } from './config-error.ts'
import type { GatewayConfig } from './config-schema.ts'

type Trusting = Pick<GatewayConfig, 'trustedProxies' | 'forwardedHeader'>

/** null: nobody is believed. */
export function trustOf({ trustedProxies, forwardedHeader }: Trusting): TrustRules | null {
  const proxies = trustedProxies.flatMap((text) => parseBlock(text) ?? [])
  return proxies.length === 0 ? null : { proxies, header: forwardedHeader }
}

/** What a pattern cannot say. */
export function trustMistakes({ trustedProxies }: Trusting): PlacedMistake[] {
  return trustedProxies.flatMap((text, index) =>
    parseBlock(text) === null
      ? [
          mistake(
            ['trustedProxies', index],
            `expected an address or a CIDR block such as 10.0.0.0/8, got "${text}"`,
          ),
        ]
      : [],
  )
}
