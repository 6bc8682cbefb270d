import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

// Tests start hundreds of processes of the same few files: what one has compiled, the others read.
process.env.NODE_COMPILE_CACHE ??= fileURLToPath(new URL('node_modules/.cache/compile', import.meta.url))

export default defineConfig({
  resolve: { conditions: ['evenkeel-source'] },
  ssr: { resolve: { conditions: ['evenkeel-source'] } },
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/soak/**'],
    globalSetup: [
      'test/support/install-redis.ts',
      'test/support/install-chromium.ts',
      'test/support/build-dashboard.ts',
      'test/support/install-haproxy.ts',
    ],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    pool: 'forks',
    maxWorkers: 2,
  },
})
