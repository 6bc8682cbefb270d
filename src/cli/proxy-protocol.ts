import { z } from 'zod'
import { parseBlock } from '../core/net/address.ts'
import type { ProxyHeadersOptions } from '../edge/proxy-headers.ts'
import { mistake, type PlacedMistake } from './config-error.ts'
import type { GatewayConfig } from './config-schema.ts'
import { effectiveRoutes, poolsOf } from './route-rules.ts'

/** Of a listener: whether those who connect say by a PROXY protocol header for whom. */
export const proxyProtocolShape = {
  proxyProtocol: z
    .enum(['off', 'required'])
    .exactOptional()
    .describe(
      'Default: off. required: every connection begins with a PROXY protocol header (version 1 or 2), and its client is the one that is named there.',
    ),
  proxyProtocolFrom: z
    .array(z.string().min(1).max(64))
    .min(1)
    .exactOptional()
    .describe('CIDR blocks of the proxies that may connect; goes with proxyProtocol: required.')
    .meta({ examples: [['10.0.0.0/8']] }),
}

interface Listener {
  readonly proxyProtocol?: 'off' | 'required'
  readonly proxyProtocolFrom?: readonly string[]
}

/** `place` is the listener's in the configuration. */
export function proxyProtocolMistakes(
  place: readonly PropertyKey[],
  { proxyProtocol = 'off', proxyProtocolFrom }: Listener,
): PlacedMistake[] {
  const path = [...place, 'proxyProtocolFrom']
  if (proxyProtocol === 'required' && proxyProtocolFrom === undefined)
    return [mistake(path, 'expected the CIDR blocks of the proxies; anybody else could name any client')]
  if (proxyProtocol === 'off' && proxyProtocolFrom !== undefined)
    return [mistake(path, 'goes with proxyProtocol: required')]
  return (proxyProtocolFrom ?? []).flatMap((text, index) =>
    parseBlock(text) === null
      ? [mistake([...path, index], `expected an address or a CIDR block such as 10.0.0.0/8, got "${text}"`)]
      : [],
  )
}

/** Language models are asked over connections that are kept for all clients. */
export function proxyProtocolPoolMistakes(config: GatewayConfig): PlacedMistake[] {
  const asked = effectiveRoutes(config).filter(({ protocol }) => protocol === 'llm')
  const pools = new Set(asked.flatMap(poolsOf))
  return Object.entries(config.pools).flatMap(([name, { proxyProtocol = 'off' }]) =>
    proxyProtocol !== 'off' && pools.has(name)
      ? [
          mistake(
            ['pools', name, 'proxyProtocol'],
            'not with protocol: llm, whose connections carry requests of several clients',
          ),
        ]
      : [],
  )
}

/** As the listener takes it; null: connections come from clients themselves. */
export function proxyHeadersOf(
  { proxyProtocol = 'off', proxyProtocolFrom = [] }: Listener,
  onRefused: ProxyHeadersOptions['onRefused'],
): ProxyHeadersOptions | null {
  if (proxyProtocol === 'off') return null
  return { from: proxyProtocolFrom.map((text) => parseBlock(text)!), onRefused }
}
