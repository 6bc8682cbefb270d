import { fileURLToPath } from 'node:url'
import { build } from 'vite'

/** Gateways serve the built dashboard. Vitest runs this once, before all tests. */
export default async function buildDashboard(): Promise<void> {
  await build({ configFile: fileURLToPath(new URL('../../vite.config.ts', import.meta.url)) })
}
