import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type ConfigSources,
  checkConfigFile,
  environmentVariables,
  loadConfig,
} from '../../src/cli/config.ts'
import { ConfigError } from '../../src/cli/config-error.ts'
import { parseConfigText } from '../../src/cli/config-file.ts'
import { configJsonSchema } from '../../src/cli/config-schema.ts'
import { listenFailure } from '../../src/cli/listen-failure.ts'
import { createLogger } from '../../src/cli/logger.ts'
import { nearest } from '../../src/cli/nearest.ts'
import { commonRules, rulesByPool } from '../../src/cli/pool-rules.ts'
import { onlyUpstreams } from '../../src/cli/upstream-pools.ts'
import { workerConfig } from '../../src/cli/workers/worker-config.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'

let directory = ''
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'evenkeel-config-'))
})
afterAll(() => rm(directory, { recursive: true }))

async function file(name: string, text: string): Promise<string> {
  const full = path.join(directory, name)
  await writeFile(full, text)
  return full
}

async function errorOf(sources: ConfigSources): Promise<ConfigError> {
  const error = await loadConfig(sources).then(
    () => null,
    (reason: unknown) => reason,
  )
  if (!(error instanceof ConfigError)) throw new Error(`expected a ConfigError, got ${error}`)
  return error
}

describe('layers', () => {
  test('defaults are complete and frozen', async () => {
    const { config, tokens, warnings } = await loadConfig({ env: {} })
    expect(config).toEqual({
      public: { host: '0.0.0.0', port: 8080 },
      internal: { host: '127.0.0.1', port: 8081 },
      policy: 'weighted-least-connections',
      slowConsumer: 'close',
      channels: { history: [] },
      pool: 'default',
      pools: {},
      routes: [],
      tcp: [],
      workers: 1,
      allowedOrigins: 'same-host',
      trustedProxies: [],
      forwardedHeader: 'any',
      websocket: { deflate: 'off' },
      persistence: { by: 'none', name: 'evenkeel-node', ttlMs: 3_600_000, maxOverShare: 0.25 },
      slowStartMs: 0,
      rebalance: {
        enabled: true,
        intervalMs: 10_000,
        tolerance: 0.03,
        load: 'sessions',
        measure: 'messages',
        loadTolerance: 0.15,
      },
      limits: defaultLimits,
      rateLimits: {
        gateway: {},
        perIp: {},
        perUser: {},
        perRoute: {},
        perConnection: {},
        patienceMs: 10_000,
        deny: [],
        exempt: [],
      },
      overload: {
        enabled: true,
        maxLagMs: 500,
        maxHeapShare: 0.85,
        maxDescriptorShare: 0.9,
        seconds: 3,
        recoverSeconds: 5,
      },
      tracing: { enabled: false, clientContext: 'parent' },
      log: { level: 'info' },
    })
    expect(Object.isFrozen(config) && Object.isFrozen(config.limits) && Object.isFrozen(config.public)).toBe(
      true,
    )
    expect(tokens).toEqual({ nodeToken: null, adminToken: null })
    expect(warnings).toEqual([])
  })

  test('file, environment and flags rise in that order', async () => {
    const name = await file(
      'order.yaml',
      'public: {port: 1, host: file}\npolicy: random\nlog: {level: error}\n',
    )
    const { config } = await loadConfig({
      file: name,
      env: { EVENKEEL_PUBLIC_PORT: '2', EVENKEEL_LOG_LEVEL: 'debug' },
      flags: {
        '--port': { path: ['public', 'port'], value: 3 },
        '--policy': { path: ['policy'], value: undefined },
      },
    })
    expect(config.public).toEqual({ host: 'file', port: 3 })
    expect([config.policy, config.log.level]).toEqual(['random', 'debug'])
  })

  test('EVENKEEL_CONFIG names the file; JSON is read too, and may name its schema', async () => {
    const name = await file(
      'gateway.json',
      '{\n\t"$schema": "./schema.json",\n\t"pool": "chat", "limits": {"holdMs": 5}\n}',
    )
    const { config } = await loadConfig({ env: { EVENKEEL_CONFIG: name } })
    expect([config.pool, config.limits.holdMs, config.limits.downMs]).toEqual([
      'chat',
      5,
      defaultLimits.downMs,
    ])
    expect(config).not.toHaveProperty('$schema')
  })

  test('an empty file and empty variables change nothing', async () => {
    const name = await file('empty.yaml', '# nothing yet\n')
    const env = { EVENKEEL_PUBLIC_PORT: '', EVENKEEL_CONFIG: '', EVENKEEL_ADMIN_TOKEN: '' }
    expect(await loadConfig({ file: name, env })).toEqual(await loadConfig({ env: {} }))
  })

  test('a variable changes one place, also where the file shares it by an alias', async () => {
    const name = await file('alias.yaml', 'public: &here {host: 127.0.0.1, port: 0}\ninternal: *here\n')
    const { config } = await loadConfig({ file: name, env: { EVENKEEL_PUBLIC_PORT: '9' } })
    expect([config.public.port, config.internal.port]).toEqual([9, 0])
  })
})

describe('environment', () => {
  test('every value has a variable of its own', () => {
    const variables = environmentVariables().map((leaf) => leaf.variable)
    expect(new Set(variables).size).toBe(variables.length)
    expect(variables).toEqual(
      expect.arrayContaining([
        'EVENKEEL_PUBLIC_HOST',
        'EVENKEEL_PUBLIC_PORT',
        'EVENKEEL_INTERNAL_HOST',
        'EVENKEEL_INTERNAL_PORT',
        'EVENKEEL_GATEWAY_ID',
        'EVENKEEL_POLICY',
        'EVENKEEL_POOL',
        'EVENKEEL_ALLOWED_ORIGINS',
        'EVENKEEL_CHANNELS_HISTORY',
        'EVENKEEL_REBALANCE_ENABLED',
        'EVENKEEL_REBALANCE_INTERVAL_MS',
        'EVENKEEL_REBALANCE_MAX_MOVES_PER_ROUND',
        'EVENKEEL_LIMITS_CLIENT_BUFFER_BYTES',
        'EVENKEEL_LOG_LEVEL',
        'EVENKEEL_NODE_TOKEN_FILE',
      ]),
    )
    expect(variables).not.toContain('EVENKEEL_$SCHEMA')
    expect(variables.filter((name) => name.startsWith('EVENKEEL_LIMITS_'))).toHaveLength(
      Object.keys(defaultLimits).length,
    )
  })

  test('texts become the type that is wanted', async () => {
    const { config } = await loadConfig({
      env: {
        EVENKEEL_REBALANCE_ENABLED: 'false',
        EVENKEEL_REBALANCE_TOLERANCE: '0.1',
        EVENKEEL_REBALANCE_MAX_MOVES_PER_ROUND: '50',
        EVENKEEL_LIMITS_WAIT_FOR_NODE_MS: '0',
        EVENKEEL_GATEWAY_ID: '17',
        EVENKEEL_ALLOWED_ORIGINS: 'https://A.example:443, http://localhost:3000',
      },
    })
    expect(config.rebalance).toMatchObject({
      enabled: false,
      intervalMs: 10_000,
      tolerance: 0.1,
      maxMovesPerRound: 50,
    })
    expect([config.limits.waitForNodeMs, config.gatewayId]).toEqual([0, '17'])
    expect(config.allowedOrigins).toEqual(['https://a.example', 'http://localhost:3000'])
    expect((await loadConfig({ env: { EVENKEEL_ALLOWED_ORIGINS: '*' } })).config.allowedOrigins).toBe('*')
  })

  test('rules for channel histories are JSON', async () => {
    const { config } = await loadConfig({
      env: { EVENKEEL_CHANNELS_HISTORY: '[{"match": "room:*", "size": 5}, {"match": "news"}]' },
    })
    expect(config.channels.history).toEqual([
      { match: 'room:*', size: 5, ttlMs: 300_000 },
      { match: 'news', size: 100, ttlMs: 300_000 },
    ])
  })

  test('an unknown variable is a warning that names what was probably meant', async () => {
    const { warnings } = await loadConfig({
      env: {
        EVENKEEL_PUBLC_PORT: '1',
        EVENKEEL_ADMIN_URL: 'x',
        EVENKEEL_TOTALLY_DIFFERENT_THING: '',
        OTHER: '1',
      },
    })
    expect(warnings).toEqual([
      'unknown variable EVENKEEL_PUBLC_PORT; did you mean EVENKEEL_PUBLIC_PORT?',
      'unknown variable EVENKEEL_TOTALLY_DIFFERENT_THING',
    ])
  })

  test.each([
    [
      { EVENKEEL_PUBLIC_PORT: 'abc' },
      'EVENKEEL_PUBLIC_PORT: public.port: expected an integer from 0 to 65535, got "abc"',
    ],
    [
      { EVENKEEL_PUBLIC_PORT: '70000' },
      'EVENKEEL_PUBLIC_PORT: public.port: expected an integer from 0 to 65535, got 70000',
    ],
    [
      { EVENKEEL_PUBLIC_PORT: '80.5' },
      'EVENKEEL_PUBLIC_PORT: public.port: expected an integer from 0 to 65535, got 80.5',
    ],
    [
      { EVENKEEL_PUBLIC_PORT: '0x50' },
      'EVENKEEL_PUBLIC_PORT: public.port: expected an integer from 0 to 65535, got "0x50"',
    ],
    [
      { EVENKEEL_REBALANCE_ENABLED: 'yes' },
      'EVENKEEL_REBALANCE_ENABLED: rebalance.enabled: expected true or false, got "yes"',
    ],
    [
      { EVENKEEL_POLICY: 'least' },
      'EVENKEEL_POLICY: policy: expected one of "weighted-least-connections", "least-connections", "round-robin", "smooth-weighted-round-robin", "ip-hash", "key-hash", "least-response-time", "least-bandwidth", "random", "power-of-two-choices", got "least"',
    ],
    [
      { EVENKEEL_CHANNELS_HISTORY: 'room:*' },
      'EVENKEEL_CHANNELS_HISTORY: channels.history: expected a list of objects with the keys match, size, ttlMs, got "room:*"',
    ],
    [
      { EVENKEEL_LIMITS_HOLD_MS: '3000000000' },
      'EVENKEEL_LIMITS_HOLD_MS: limits.holdMs: expected an integer from 1 to 2147483647, got 3000000000',
    ],
    [
      { EVENKEEL_ALLOWED_ORIGINS: 'https://a.example,b.example' },
      'EVENKEEL_ALLOWED_ORIGINS: allowedOrigins[1]: expected a text such as "https://app.example.com", got "b.example"',
    ],
  ])('%j is refused by the name of the variable', async (env, message) => {
    expect((await errorOf({ env })).message).toBe(message)
  })
})

describe('PROXY protocol', () => {
  test.each([
    ['proxyProtocol: required', 'public.proxyProtocolFrom: expected the CIDR blocks of the proxies'],
    ['proxyProtocolFrom: [10.0.0.0/8]', 'public.proxyProtocolFrom: goes with proxyProtocol: required'],
    [
      'proxyProtocol: required, proxyProtocolFrom: [10.0.0.0/8, proxy.example]',
      'public.proxyProtocolFrom[1]: expected an address or a CIDR block such as 10.0.0.0/8, got "proxy.example"',
    ],
  ])('{%s} is refused', async (keys, message) => {
    await expect(checkConfigFile(await file('proxy-bad.yaml', `public: {${keys}}`))).rejects.toThrow(message)
  })
})

test.each([
  'pools: { llm: { proxyProtocol: v2 } }',
  'pools: { chat: { proxyProtocol: v1 } }\nroutes: [{ path: /, pool: chat, protocol: llm }]',
])('%s is refused: one connection would carry several clients', async (text) => {
  await expect(checkConfigFile(await file('proxy-llm.yaml', text))).rejects.toThrow(
    /pools\.(llm|chat)\.proxyProtocol: not with protocol: llm/,
  )
})

describe('tcp', () => {
  const pools =
    'pools: { db: { upstreams: ["tcp://10.0.0.7:5432"] }, web: { upstreams: [http://10.0.0.8] }, moving: { migrate: redial } }'

  test('listeners, and URLs of upstreams that only they lead to', async () => {
    const tcp = 'tcp: [{ port: 5432, pool: db }, { port: 8443, sni: { a.example: web, "*.example": db } }]'
    const config = await checkConfigFile(await file('tcp.yaml', `${pools}\n${tcp}`))
    expect(config.tcp).toEqual([
      { host: '0.0.0.0', port: 5432, pool: 'db', idleMs: 3_600_000 },
      { host: '0.0.0.0', port: 8443, sni: { 'a.example': 'web', '*.example': 'db' }, idleMs: 3_600_000 },
    ])
  })

  test.each([
    ['tcp: [{ port: 1 }]', 'tcp[0]: expected pool, sni or both'],
    ['tcp: [{ port: 1, pool: other }]', 'tcp[0]: expected one of pools (db, web, moving), got "other"'],
    ['tcp: [{ port: 1, pool: moving }]', 'pools.moving.migrate: tcp[0] leads here'],
    ['tcp: [{ port: 8080, pool: db }]', 'tcp[0].port: it is that of public'],
    ['tcp: [{ port: 8081, pool: db }]', 'tcp[0].port: it is one of internal'],
    [
      'tcp: [{ port: 1, pool: db }, { port: 1, host: 127.0.0.1, pool: db }]',
      'tcp[1].port: it is that of tcp[0]',
    ],
    ['tcp: [{ port: 1, pool: db, proxyProtocol: required }]', 'tcp[0].proxyProtocolFrom: expected'],
    ['tcp: [{ port: 1, sni: { "a.*": db } }]', 'tcp[0].sni'],
    ['tcp: []', 'pools.db.upstreams[0]: tcp: URL, but no listener of tcp leads to pool db'],
    ['tcp: [{ port: 1, pool: db }]\nroutes: [{ path: /, pool: db }]', 'pools.db.upstreams[0]: tcp: URL, but'],
  ])('%s is refused', async (text, message) => {
    await expect(checkConfigFile(await file('tcp-bad.yaml', `${pools}\n${text}`))).rejects.toThrow(message)
  })
})

describe('pools and routes', () => {
  const text = `
pools:
  legacy:
    upstreams: [ http://127.0.0.1:3000, { url: "http://[::1]:3001", weight: 2, id: two } ]
    dns: { name: chat.internal, port: 3000 }
    migrate: redial
    probe: { path: /healthz }
    allowedAddresses: [ 10.0.0.0/8 ]
  plain: { upstreams: [ https://a.example ] }
routes:
  - { path: /legacy/*, pool: legacy }
`

  test.each([
    [
      'a: {allowedAddresses: [10.0.0.0/8, 10.0.0.0/33]}',
      'pools.a.allowedAddresses[1]: expected an address or a CIDR block',
    ],
    ['a: {allowedAddresses: [localhost]}', 'pools.a.allowedAddresses[0]: expected an address'],
    [
      'a: {dns: {name: x.y, servers: [1.2.3.4, dns.example]}}',
      'pools.a.dns.servers[1]: expected an address, or address:port',
    ],
    ['a: {dns: {name: x.y, servers: ["1.2.3.4:0"]}}', 'pools.a.dns.servers[0]'],
    [`a: {upstreams: [http://${'a'.repeat(63)}.b]}`, 'pools.a.upstreams[0]: aaa'],
    [
      'a: {upstreams: [http://x]}, b: {upstreams: [http://y, {url: http://z, id: "x:80"}]}',
      'pools.b.upstreams[1]: x:80 is the id of pools.a.upstreams[0], too',
    ],
  ])('{%s} is refused', async (pools, message) => {
    const name = await file('pools-bad.yaml', `pools: {${pools}}`)
    await expect(checkConfigFile(name)).rejects.toThrow(message)
  })

  test('name servers are addresses with or without a port', async () => {
    const servers = '[1.2.3.4, "1.2.3.4:53", "fd00::1", "[fd00::1]:53"]'
    const name = await file('dns.yaml', `pools: {a: {dns: {name: x.y, servers: ${servers}}}}`)
    expect((await checkConfigFile(name)).pools.a!.dns!.servers).toHaveLength(4)
  })

  test('are read with their defaults', async () => {
    const { pools, routes } = await checkConfigFile(await file('pools.yaml', text))
    expect(pools).toEqual({
      legacy: {
        upstreams: ['http://127.0.0.1:3000', { url: 'http://[::1]:3001', weight: 2, id: 'two' }],
        dns: { name: 'chat.internal', port: 3000, type: 'A', scheme: 'http', intervalMs: 5_000 },
        migrate: 'redial',
        probe: { path: '/healthz', intervalMs: 5_000, timeoutMs: 2_000, failures: 3 },
        allowedAddresses: ['10.0.0.0/8'],
      },
      plain: {
        upstreams: ['https://a.example'],
        migrate: 'drain',
        probe: { intervalMs: 5_000, timeoutMs: 2_000, failures: 3 },
      },
    })
    expect(routes).toEqual([{ path: '/legacy/*', pool: 'legacy' }])
  })

  test('come from the environment as JSON', async () => {
    const { config } = await loadConfig({
      env: {
        EVENKEEL_POOLS: '{"a": {"upstreams": ["http://127.0.0.1:1"]}}',
        EVENKEEL_ROUTES: '[{"path": "/*", "pool": "a"}]',
      },
    })
    expect(Object.keys(config.pools)).toEqual(['a'])
    expect(config.routes).toEqual([{ path: '/*', pool: 'a' }])
  })

  test('of language models', async () => {
    const route = { path: '/v1/*', pool: 'm', protocol: 'llm', affinity: { body: 'user' }, mode: 'durable' }
    const config = {
      pools: { m: {} },
      routes: [route, { ...route, dialect: 'ai-sdk', affinity: { header: 'X-A' } }],
    }
    const { routes } = await checkConfigFile(await file('llm.json', JSON.stringify(config)))
    expect(routes).toEqual(config.routes)
    const odd = await file(
      'odd.yaml',
      'pools: {a: {}}\nroutes: [{path: /a, pool: a, affinity: {body: user}}]',
    )
    await expect(checkConfigFile(odd)).rejects.toThrow('routes[0].affinity: {body} goes with protocol: llm')
  })

  test('fit each other', async () => {
    const elsewhere = await file(
      'elsewhere.yaml',
      'pools: {a: {}}\nroutes: [{path: /a, pool: a}, {path: /x, pool: b}]',
    )
    await expect(checkConfigFile(elsewhere)).rejects.toThrow(
      'routes[1].pool: expected one of pools (a), got "b"',
    )
    const nodes = await file('nodes.yaml', 'pools: {default: {upstreams: [http://127.0.0.1:3000]}}')
    await expect(checkConfigFile(nodes)).rejects.toThrow(
      'pools.default: /ws and /sse are served by nodes of pool default',
    )
  })
})

describe('how pools are balanced', () => {
  test('is set for all pools, and otherwise for one', async () => {
    const name = await file(
      'balance.yaml',
      [
        'policy: key-hash',
        'hashKey: {by: cookie, name: user}',
        'rebalance: {load: traffic, measure: bytes}',
        'pools:',
        '  default: {policy: round-robin, slowStartMs: 5000, rebalance: {load: reported}, affinity: message, orderBy: {json: room}}',
        '  legacy: {upstreams: [http://127.0.0.1:3000]}',
      ].join('\n'),
    )
    const config = await checkConfigFile(name)
    expect(commonRules(config)).toEqual({
      hashKey: { by: 'cookie', name: 'user' },
      slowStartMs: 0,
      load: 'traffic',
      measure: 'bytes',
      loadTolerance: 0.15,
    })
    expect(rulesByPool(config.pools).get('default')).toEqual({
      policy: 'round-robin',
      slowStartMs: 5_000,
      load: 'reported',
      affinity: 'message',
      orderBy: 'room',
    })
    expect(Object.keys(onlyUpstreams(config))).toEqual(['legacy'])
  })

  test.each([
    ['policy: key-hash', 'policy: key-hash needs hashKey'],
    ['pools: {default: {policy: key-hash}}', 'pools.default.policy: key-hash needs hashKey'],
    ['pools: {default: {orderBy: {json: a}}}', 'pools.default.orderBy: only with affinity message'],
    [
      'policy: ip-hash\npools: {default: {affinity: message}}',
      'pools.default.affinity: message does not go with policy ip-hash',
    ],
    ['pools: {a: {affinity: message}}', 'pools.a.affinity: message is for nodes that are linked'],
    [
      'rebalance: {load: reported}\npools: {a: {}}',
      'pools.a.rebalance.load: an upstream reports no load; use sessions or traffic',
    ],
    ['routes: [{path: /a, pool: default}]\npools: {default: {}}', 'routes[0].pool: expected one of pools'],
  ])('%j is refused', async (text, message) => {
    const name = await file('mistake.yaml', text)
    await expect(checkConfigFile(name)).rejects.toThrow(message)
  })
})

describe('mistakes in a file', () => {
  test.each([
    [
      'pools: {a: {upstreams: [ftp://a]}}',
      '1:25: pools.a.upstreams[0]: expected a text such as "http://127.0.0.1:3000" or an object with the keys url, id, weight, got "ftp://a"',
    ],
    ['pools: {a: {upstreams: ["http://u:p@a"]}}', '1:25: pools.a.upstreams[0]: expected a text such as'],
    ['pools: {a: {upstreams: ["http://a/path"]}}', '1:25: pools.a.upstreams[0]: expected a text such as'],
    ['pools: {a: {migrat: drain}}', '1:13: unknown key "pools.a.migrat"; did you mean "migrate"?'],
    ['pools: {a: {migrate: never}}', '1:22: pools.a.migrate: expected one of "drain", "redial", got "never"'],
    [
      'pools: 5',
      '1:8: pools: expected an object whose values are each an object with the keys of, upstreams, dns, migrate',
    ],
    ['routes: [{path: legacy, pool: a}]', '1:17: routes[0].path: expected a text such as "/legacy/*"'],
    ['routes: [{path: /a*b, pool: a}]', '1:17: routes[0].path: expected a text such as'],
    ['port: 80', '1:1: unknown key "port"; did you mean "pool"?'],
    ['public:\n  prot: 80', '2:3: unknown key "public.prot"; did you mean "port"?'],
    ['zzzzzzzz: 1', '1:1: unknown key "zzzzzzzz"; allowed: $schema, public, internal'],
    ['public:\n  port: abc', '2:9: public.port: expected an integer from 0 to 65535, got "abc"'],
    ['internal:', '1:10: internal: expected an object with the keys host, port, tls, got nothing (null)'],
    [
      'policy: most-connections',
      '1:9: policy: expected one of "weighted-least-connections", "least-connections", "round-robin"',
    ],
    ['limits:\n  holdMs: 0', '2:11: limits.holdMs: expected an integer from 1 to 2147483647, got 0'],
    [
      'limits:\n  waitForNodeMs: -1',
      '2:18: limits.waitForNodeMs: expected an integer from 0 to 2147483647, got -1',
    ],
    [
      'rateLimits: {deny: [10.0.0.0/33]}',
      '1:21: rateLimits.deny[0]: expected a text such as "10.0.0.0/8", got "10.0.0.0/33"',
    ],
    [
      'rateLimits: {perIp: {requests: 5}}',
      '1:32: rateLimits.perIp.requests: expected an object with the keys perSecond, burst',
    ],
    [
      'rateLimits: {perIp: {conections: 5}}',
      '1:22: unknown key "rateLimits.perIp.conections"; did you mean "connections" or',
    ],
    ['overload: {maxHeapShare: 85}', '1:26: overload.maxHeapShare: expected a number from 0.1 to 1, got 85'],
    ['rebalance: {tolerance: .inf}', '1:24: rebalance.tolerance: expected a number from 0 to 1'],
    ['rebalance: {enabled: "yes"}', '1:22: rebalance.enabled: expected true or false, got "yes"'],
    ['log: {level: loud}', '1:14: log.level: expected one of "fatal", "error", "warn"'],
    [
      'channels:\n  history:\n    - {match: "room:*", size: 0}',
      '3:31: channels.history[0].size: expected an integer from 1 to 10000, got 0',
    ],
    [
      'channels: {history: [{match: a, ttlMs: 999}]}',
      '1:40: channels.history[0].ttlMs: expected an integer from 1000 to 2147483647, got 999',
    ],
    [
      'channels: {history: [{size: 1}]}',
      '1:22: channels.history[0].match: expected a text of 1 to 255 characters; it is missing',
    ],
    [
      'channels: {history: [{match: a, ttl: 1}]}',
      '1:33: unknown key "channels.history[0].ttl"; did you mean',
    ],
    ['allowedOrigins: []', '1:17: allowedOrigins: expected'],
    [
      'allowedOrigins: any',
      '1:17: allowedOrigins: expected "same-host" or "*" or a list of texts such as "https://app.example.com", got "any"',
    ],
    [
      'allowedOrigins:\n  - https://a.example\n  - b.example',
      '3:5: allowedOrigins[1]: expected a text such as',
    ],
    ['allowedOrigins: ["https://a:99999"]', '1:18: allowedOrigins[0]: expected a text such as'],
    ['- 1', '1:1: expected an object with the keys'],
    ['just text', '1:1: expected an object with the keys'],
    ['pool: a\npool: b', '2:1: Map keys must be unique'],
    ['pool: [a', '1:9: Flow sequence'],
    ['pool: !other a', '1:7: Unresolved tag'],
    ['__proto__: {pool: a}', '1:1: unknown key "__proto__"'],
    ['pool: a\n---\npool: b', '2:1: Source contains multiple documents'],
  ])('%j', (text, message) => {
    expect(() => parseConfigText(text, 'gateway.yaml')).toThrow(
      expect.objectContaining({
        code: 'CONFIG_INVALID',
        message: expect.stringContaining(`gateway.yaml:${message}`),
      }),
    )
  })

  test('every mistake is named at once', () => {
    const text = 'pool: 5\npublic: {port: x}\nlimits: {holdMS: 1}\n'
    expect(() => parseConfigText(text, 'f')).toThrow(
      [
        'f:1:7: pool: expected a text of 1 to 255 characters, got 5',
        'f:2:16: public.port: expected an integer from 0 to 65535, got "x"',
        'f:3:10: unknown key "limits.holdMS"; did you mean "holdMs"?',
      ].join('\n'),
    )
  })

  test('a token in the file is refused, is not repeated, and the message says where tokens go', () => {
    const attempt = () => parseConfigText('adminToken: hunter2', 'f')
    expect(attempt).toThrow(/EVENKEEL_ADMIN_TOKEN, or from nodeTokenFile and adminTokenFile/)
    expect(attempt).not.toThrow(/hunter2/)
  })

  test('an alias that points nowhere, and a bomb of aliases', () => {
    expect(() => parseConfigText('pool: *x', 'f')).toThrow(ConfigError)
    const bomb = ['a: &a [1,1,1,1,1,1,1,1,1,1]']
    for (const [from, to] of ['ab', 'bc', 'cd', 'de', 'ef'].map((pair) => [pair[0], pair[1]])) {
      bomb.push(`${to}: &${to} [${Array(10).fill(`*${from}`).join(',')}]`)
    }
    expect(() => parseConfigText(bomb.join('\n'), 'f')).toThrow(/Excessive alias count/)
  })

  test('a missing file, and one that is too large', async () => {
    expect((await errorOf({ file: '/does/not/exist.yaml', env: {} })).message).toBe(
      '/does/not/exist.yaml: cannot be read (ENOENT)',
    )
    const large = await file('large.yaml', `# ${'x'.repeat(1024 * 1024)}`)
    expect((await errorOf({ file: large, env: {} })).message).toContain('larger than 1048576 bytes')
  })

  test('values that contradict each other', async () => {
    const ports = await errorOf({ env: { EVENKEEL_PUBLIC_PORT: '8081' } })
    expect(ports.message).toContain('public.port and internal.port are both 8081')
    const beats = await file('beats.yaml', 'limits: {heartbeatMs: 9000}')
    await expect(checkConfigFile(beats)).rejects.toThrow(
      /heartbeatMs < suspectMs < downMs, got 9000, 4000 and 6000/,
    )
  })
})

describe('workers', () => {
  test('more than one need Redis, wherever both are set; a file by itself may leave it to the environment', async () => {
    const name = await file('workers.yaml', 'workers: 4\n')
    const message =
      '4 workers find each other through Redis; set redis (EVENKEEL_REDIS, --redis), or workers to 1'
    expect((await errorOf({ file: name, env: {} })).message).toBe(`${name}:1:10: ${message}`)
    expect((await errorOf({ env: { EVENKEEL_WORKERS: '4' } })).message).toBe(`EVENKEEL_WORKERS: ${message}`)
    const env = { EVENKEEL_REDIS: 'redis://127.0.0.1' }
    expect((await loadConfig({ file: name, env })).config.workers).toBe(4)
    expect((await checkConfigFile(name)).workers).toBe(4)
  })

  test.each([
    ['0', 'workers: expected an integer from 1 to 64, got 0'],
    ['65', 'workers: expected an integer from 1 to 64, got 65'],
  ])('%s are none', async (count, message) => {
    expect((await errorOf({ env: { EVENKEEL_WORKERS: count } })).message).toContain(message)
  })

  test('their internal ports count up and must be free for them', async () => {
    const taken = await file('taken.yaml', 'workers: 4\npublic: {port: 8084}\n')
    await expect(checkConfigFile(taken)).rejects.toThrow(
      'public.port 8084 is among the internal ports of the workers, 8081 to 8084; choose another one',
    )
    const high = await file('high.yaml', 'workers: 4\ninternal: {port: 65533}\n')
    await expect(checkConfigFile(high)).rejects.toThrow('count up to port 65536; begin at 65532 or below')
    const any = await file('any.yaml', 'workers: 4\ninternal: {port: 0}\npublic: {port: 0}\n')
    expect((await checkConfigFile(any)).internal.port).toBe(0)
  })

  test('each has an id, an internal port and an address of its own, and the public port of all', async () => {
    const name = await file(
      'own.yaml',
      'workers: 2\nredis: redis://r\ngatewayId: gw\ninternalUrl: ws://host:9000\npublic: {port: 0}\n',
    )
    const { config } = await loadConfig({ file: name, env: {} })
    expect([workerConfig(config, 1, 0), workerConfig(config, 2, 4242)]).toMatchObject([
      { gatewayId: 'gw-1', internal: { port: 8081 }, internalUrl: 'ws://host:9000', public: { port: 0 } },
      { gatewayId: 'gw-2', internal: { port: 8082 }, internalUrl: 'ws://host:9001/', public: { port: 4242 } },
    ])
    const bare = { ...config, internal: { host: '127.0.0.1', port: 0 }, internalUrl: 'wss://gateways' }
    expect(workerConfig(bare, 3, 0)).toMatchObject({
      internal: { port: 0 },
      internalUrl: 'wss://gateways:445/',
    })
    expect(workerConfig({ ...bare, internalUrl: 'host' }, 2, 0).internalUrl).toBe('host')
  })

  test('where the system does not let them share a port, the remedy is said', async () => {
    const { config } = await loadConfig({ env: {} })
    const error = Object.assign(new Error('listen ENOTSUP'), {
      code: 'ENOTSUP',
      address: '0.0.0.0',
      port: 80,
    })
    expect(listenFailure(error, config)?.message).toBe(
      'Cannot listen on 0.0.0.0:80: this system does not let workers share a port (SO_REUSEPORT); set workers to 1.',
    )
    expect(listenFailure(new Error('other'), config)).toBeNull()
  })
})

describe('persistence', () => {
  test('its secret is read from a file beside the configuration, and is no part of it', async () => {
    await file('sticky.secret', 'between-gateways\n')
    const name = await file('sticky.yaml', 'persistence: {by: cookie, secretFile: sticky.secret}\n')
    const { config, tokens } = await loadConfig({ file: name, env: {} })
    expect(tokens.persistenceSecret).toBe('between-gateways')
    expect(config.persistence).toMatchObject({
      by: 'cookie',
      secretFile: path.join(directory, 'sticky.secret'),
    })
    expect(JSON.stringify(config)).not.toContain('between-gateways')
  })

  test('environment variables set it', async () => {
    const env = { EVENKEEL_PERSISTENCE_BY: 'ip', EVENKEEL_PERSISTENCE_MAX_OVER_SHARE: '0.5' }
    const { config } = await loadConfig({ env })
    expect(config.persistence).toMatchObject({ by: 'ip', maxOverShare: 0.5 })
  })

  test.each([
    ['by: session', 'persistence.by'],
    ['name: "a b"', 'persistence.name'],
    ['name: "a;b"', 'persistence.name'],
    ['ttlMs: 10', 'persistence.ttlMs'],
    ['maxOverShare: -1', 'persistence.maxOverShare'],
  ])('%s is a mistake', async (text, where) => {
    const error = await errorOf({ file: await file('wrong.yaml', `persistence: {${text}}\n`), env: {} })
    expect(error.message).toContain(where)
  })
})

describe('tokens', () => {
  test('come from the environment or from files, which the file names beside itself', async () => {
    await file('node.token', 'from-file\n')
    const name = await file('tokens.yaml', 'nodeTokenFile: node.token\nadminTokenFile: missing.token\n')
    const { tokens, config } = await loadConfig({ file: name, env: { EVENKEEL_ADMIN_TOKEN: 'from-env' } })
    expect(tokens).toEqual({ nodeToken: 'from-file', adminToken: 'from-env' })
    expect(JSON.stringify(config)).not.toMatch(/token/i)
  })

  test.each(['two words', 'line\nbreak', 'ümlaut'])(
    'a token such as %j is refused without being shown',
    async (token) => {
      const error = await errorOf({ env: { EVENKEEL_NODE_TOKEN: token } })
      expect(error.message).toContain('EVENKEEL_NODE_TOKEN: a token is')
      expect(error.message).not.toContain(token)
    },
  )

  test('an empty or missing token file is an error', async () => {
    const empty = await file('empty.token', '\n')
    expect((await errorOf({ env: { EVENKEEL_NODE_TOKEN_FILE: empty } })).message).toContain(
      `${empty}: a token is`,
    )
    const missing = path.join(directory, 'missing.token')
    expect((await errorOf({ env: { EVENKEEL_ADMIN_TOKEN_FILE: missing } })).message).toContain('ENOENT')
  })
})

test('the JSON Schema names every value with its default and its bounds', () => {
  const schema = configJsonSchema()
  expect(schema).toMatchObject({ $schema: expect.stringContaining('draft-07'), additionalProperties: false })
  expect(schema.properties?.limits?.properties?.holdMs).toMatchObject({
    type: 'integer',
    minimum: 1,
    default: 30_000,
  })
  expect(schema.properties?.policy).toMatchObject({
    default: 'weighted-least-connections',
    description: expect.any(String),
  })
})

test('nearest suggests what is similar and nothing else', () => {
  expect(nearest('publik', ['public', 'pool', 'limits'])).toEqual(['public'])
  expect(nearest('qqqqqq', ['public', 'pool'])).toEqual([])
})

test('the log never shows credentials', () => {
  let written = ''
  const logger = createLogger('info', {
    write(line) {
      written += line
    },
  })
  const headers = { authorization: 'hunter2', cookie: 'hunter2', 'set-cookie': 'hunter2', host: 'shown' }
  logger.info({
    headers,
    req: { headers },
    ...headers,
    tokens: { nodeToken: 'hunter2', adminToken: 'hunter2' },
    token: 'hunter2',
  })
  logger.debug('below the level')
  expect(written).not.toContain('hunter2')
  expect(JSON.parse(written)).toMatchObject({
    req: { headers: { authorization: '[redacted]', host: 'shown' } },
  })
})

describe('the edge', () => {
  test('certificates are named beside the file', async () => {
    const tls = { certificates: [{ certFile: 'tls/a.pem', keyFile: '/etc/a.key', names: ['*.a.example'] }] }
    const name = await file('tls.json', JSON.stringify({ public: { tls }, internal: { tls } }))
    const { config } = await loadConfig({ file: name, env: {} })
    const expected = {
      certificates: [
        { certFile: path.join(directory, 'tls/a.pem'), keyFile: '/etc/a.key', names: ['*.a.example'] },
      ],
      minVersion: 'TLSv1.2',
      reloadMs: 5_000,
    }
    expect([config.public.tls, config.internal.tls]).toEqual([expected, expected])
  })

  test.each([
    ['public: { tls: {} }', 'public.tls.certificates'],
    ['public: { tls: { certificates: [] } }', 'public.tls.certificates'],
    ['public: { tls: { certificates: [{ certFile: a }] } }', 'public.tls.certificates[0].keyFile'],
    [
      'public: { tls: { certificates: [{ certFile: a, keyFile: b, names: ["a b"] }] } }',
      'public.tls.certificates[0].names[0]',
    ],
    [
      'public: { tls: { certificates: [{ certFile: a, keyFile: b }], minVersion: TLSv1.1 } }',
      'public.tls.minVersion',
    ],
    ['trustedProxies: [proxy.example]', 'trustedProxies[0]'],
    [
      'trustedProxies: [10.0.0.0/8, 10.0.0.0/33]',
      'trustedProxies[1]: expected an address or a CIDR block such as 10.0.0.0/8, got "10.0.0.0/33"',
    ],
    ['forwardedHeader: x-real-ip', 'forwardedHeader'],
    ['websocket: { deflate: on }', 'websocket.deflate'],
    ['websocket: { deflate: { windowBits: 8 } }', 'websocket.deflate'],
  ])('%s', async (text, message) => {
    expect((await errorOf({ file: await file('edge.yaml', text), env: {} })).message).toContain(message)
  })

  test('compression is off, or bounded', async () => {
    const name = await file('deflate.yaml', 'websocket: { deflate: { threshold: 256 } }')
    expect((await loadConfig({ file: name, env: {} })).config.websocket.deflate).toEqual({
      threshold: 256,
      windowBits: 13,
      memoryLevel: 7,
      concurrency: 4,
      noContextTakeover: true,
    })
    const env = {
      EVENKEEL_TRUSTED_PROXIES: '10.0.0.0/8, ::1',
      EVENKEEL_WEBSOCKET_DEFLATE: '{"windowBits":10}',
      EVENKEEL_PUBLIC_TLS_CERTIFICATES: '[{"certFile":"/a","keyFile":"/b"}]',
    }
    const { config } = await loadConfig({ env })
    expect(config.trustedProxies).toEqual(['10.0.0.0/8', '::1'])
    expect(config.websocket.deflate).toMatchObject({ windowBits: 10 })
    expect(config.public.tls?.certificates).toEqual([{ certFile: '/a', keyFile: '/b' }])
  })
})
