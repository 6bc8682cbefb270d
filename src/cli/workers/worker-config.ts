import type { GatewayConfig } from '../config-schema.ts'

const defaultPorts: Record<string, string> = { 'http:': '80', 'ws:': '80', 'https:': '443', 'wss:': '443' }

/** The configuration of one worker: `index`, from 1, tells apart what each has for itself. The public port is shared. */
export function workerConfig(config: GatewayConfig, index: number, publicPort: number): GatewayConfig {
  const { gatewayId, internal, internalUrl } = config
  return {
    ...config,
    public: { ...config.public, port: publicPort },
    internal: { ...internal, port: internal.port === 0 ? 0 : internal.port + index - 1 },
    ...(gatewayId === undefined ? {} : { gatewayId: `${gatewayId}-${index}` }),
    ...(internalUrl === undefined ? {} : { internalUrl: countUp(internalUrl, index - 1) }),
  }
}

/** One that is no URL stays as it is: whoever announces it says what is wrong. */
function countUp(address: string, by: number): string {
  const url = URL.parse(address)
  if (url === null || by === 0) return address
  url.port = String(Number(url.port || defaultPorts[url.protocol]) + by)
  return url.href
}
