import { defineConfig, mergeConfig } from 'vitest/config'
import base from './vitest.config.ts'

/** Long runs at full size, one file after the other: each needs the whole machine. */
const config = mergeConfig(
  base,
  defineConfig({ test: { testTimeout: 600_000, hookTimeout: 60_000, maxWorkers: 1 } }),
)
// Lists are merged by appending, which would leave the soak tests excluded.
config.test = { ...config.test, include: ['test/soak/**/*.test.ts'], exclude: [] }

export default config
