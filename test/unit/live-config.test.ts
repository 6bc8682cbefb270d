import { describe, expect, test } from 'vitest'
import { loadConfig } from '../../src/cli/config.ts'
import type { GatewayConfig } from '../../src/cli/config-schema.ts'
import {
  configChanges,
  configHash,
  effectOf,
  mergeLive,
  mergeTokens,
  withoutSecrets,
} from '../../src/cli/live-config.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'

const { config } = await loadConfig({ env: {} })
const tokens = { nodeToken: null, adminToken: null }
const changes = (after: Partial<GatewayConfig>) =>
  configChanges(config, { ...config, ...after }, { before: tokens, after: tokens })

describe('what changes', () => {
  test('is named value by value; a list whose length changes as a whole', () => {
    const route = { path: '/a', pool: 'a' }
    expect(changes({})).toEqual([])
    expect(changes({ limits: { ...config.limits, holdMs: 5, leaseMs: 6 } })).toEqual([
      { path: 'limits.holdMs', from: 30_000, to: 5, effect: 'live' },
      { path: 'limits.leaseMs', from: 6_000, to: 6, effect: 'restart' },
    ])
    expect(changes({ routes: [route] })).toEqual([{ path: 'routes', from: [], to: [route], effect: 'new' }])
    const before = { ...config, routes: [route] }
    const after = { ...config, routes: [{ ...route, pool: 'b' }] }
    expect(configChanges(before, after, { before: tokens, after: tokens })).toEqual([
      { path: 'routes[0].pool', from: 'a', to: 'b', effect: 'new' },
    ])
  })

  test('shows no secret, and tokens only by their name', () => {
    const redis = 'redis://:hunter2@redis:6379'
    const found = configChanges(
      config,
      { ...config, redis },
      {
        before: tokens,
        after: { nodeToken: 'hunter2', adminToken: null, persistenceSecret: 'hunter2' },
      },
    )
    expect(found).toEqual([
      { path: 'redis', to: 'redis://:redacted@redis:6379', effect: 'restart' },
      { path: 'nodeToken', effect: 'restart' },
      { path: 'persistenceSecret', effect: 'new' },
    ])
    expect(withoutSecrets({ a: [{ clientSecret: 'x', url: 'https://a:b@c/' }], secretFile: 'f' })).toEqual({
      a: [{ clientSecret: '[redacted]', url: 'https://a:redacted@c/' }],
      secretFile: 'f',
    })
  })
})

test('what runs then has all that can change, and nothing else', () => {
  const wanted: GatewayConfig = {
    ...config,
    public: { ...config.public, port: 1 },
    redis: 'redis://other',
    slowConsumer: 'drop',
    limits: { ...config.limits, holdMs: 5, messageBytes: 6 },
  }
  const merged = mergeLive(config, wanted)
  expect(merged).toEqual({ ...config, slowConsumer: 'drop', limits: { ...config.limits, holdMs: 5 } })
  // What was set and is not any more.
  expect(mergeLive({ ...config, hashKey: { by: 'ip' as never, name: 'x' } }, config)).toEqual(config)
  expect(mergeTokens({ ...tokens, persistenceSecret: 'a' }, { nodeToken: 'n', adminToken: 'a' })).toEqual(
    tokens,
  )
})

test('a hash says whether two are the same, whatever the order is', () => {
  const reversed = Object.fromEntries(Object.entries(config).reverse()) as unknown as GatewayConfig
  expect(configHash(reversed)).toBe(configHash(config))
  expect(configHash({ ...config, pool: 'other' })).not.toBe(configHash(config))
})

test.each([
  // Said in WELCOME: nodes go by them.
  ...(['messageBytes', 'stateBytes', 'clientBufferBytes', 'resumeMs', 'heartbeatMs'] as const),
  // Taken when something starts.
  ...(['headerBytes', 'leaseMs', 'redisCommandMs', 'runLogBytes', 'sseHeartbeatMs'] as const),
])('limits.%s waits for a restart', (name) => {
  expect(defaultLimits).toHaveProperty(name)
  expect(effectOf(['limits', name])).toBe('restart')
})

test('what nobody has thought of waits for a restart', () => {
  expect(effectOf(['somethingNew', 'value'])).toBe('restart')
})
