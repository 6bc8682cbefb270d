import { assertListenAllowed } from '../../admin/access.ts'
import type { DemoOptions } from '../commands/demo.ts'
import { type ConfigSources, type LoadedConfig, loadConfig } from '../config.ts'

/** A demo is for the one who looks at it: unless it is told otherwise, other machines cannot reach it. */
export const demoEnvironment: Readonly<Record<string, string | undefined>> = {
  ...(process.env.EVENKEEL_CONFIG ? {} : { EVENKEEL_PUBLIC_HOST: '127.0.0.1' }),
  ...process.env,
}

/** What rooms of the page get back after a lost connection. */
export const demoFlags: NonNullable<ConfigSources['flags']> = {
  '--history': { path: ['channels', 'history'], value: [{ match: 'room:*', size: 100, ttlMs: 600_000 }] },
}

/** What a gateway of the demo runs with. Throws ConfigError. */
export async function loadDemoConfig(options: DemoOptions): Promise<LoadedConfig> {
  const loaded = await loadConfig({
    env: demoEnvironment,
    flags: {
      ...demoFlags,
      // The demo has processes of its own.
      '--workers': { path: ['workers'], value: 1 },
      '--port': { path: ['public', 'port'], value: options.port },
      '--internal-port': { path: ['internal', 'port'], value: options.internalPort },
      '--policy': { path: ['policy'], value: options.policy },
      '--rebalance-interval': { path: ['rebalance', 'intervalMs'], value: options.rebalanceIntervalMs },
    },
  })
  assertListenAllowed({ host: loaded.config.internal.host, ...loaded.tokens })
  return loaded
}

/** How programs of this machine reach a listener. */
export function urlOf(host: string, port: number): string {
  const everywhere: Record<string, string> = { '0.0.0.0': '127.0.0.1', '::': '::1' }
  const name = everywhere[host] ?? host
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`
}
