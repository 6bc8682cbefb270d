import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkConfigFile, loadConfig } from '../../src/cli/config.ts'
import { effectiveRoutes, nodePools } from '../../src/cli/route-rules.ts'
import { onlyUpstreams } from '../../src/cli/upstream-pools.ts'

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'evenkeel-routes-'))
})
afterAll(() => rm(directory, { recursive: true }))

async function fileOf(text: string): Promise<string> {
  const name = path.join(directory, 'routes.yaml')
  await writeFile(name, text)
  return name
}

const checked = async (text: string) => checkConfigFile(await fileOf(text))

describe('who serves a pool', () => {
  test.each([
    // A default path says what is spoken there, unless the pool has upstreams.
    ['routes: [{path: /ws, pool: b}]', ['websocket'], ['b', 'default'], []],
    [
      'routes: [{path: /socket.io/, pool: b}]\npools: {b: {policy: random}}',
      ['socket.io'],
      ['b', 'default'],
      [],
    ],
    ['routes: [{path: /ws, pool: b}]\npools: {b: {upstreams: [http://a]}}', ['http'], ['default'], ['b']],
    ['routes: [{path: /ws, pool: b}]\npools: {b: {of: upstreams}}', ['http'], ['default'], ['b']],
    ['routes: [{path: /x, pool: b}]\npools: {b: {}}', ['http'], ['default'], ['b']],
    [
      'routes: [{path: /x, pool: b, protocol: sse, split: [{pool: c, percent: 1}]}]',
      ['sse'],
      ['b', 'c', 'default'],
      [],
    ],
    ['routes: [{path: /ws, pool: b, runPools: [c]}]', ['websocket'], ['b', 'c', 'default'], []],
    ['pools: {b: {of: nodes}, c: {}}', [], ['b', 'default'], ['c']],
  ])('%s', async (text, protocols, nodes, upstreams) => {
    const config = await checked(text)
    expect(effectiveRoutes(config).map(({ protocol }) => protocol)).toEqual(protocols)
    expect([...nodePools(config)].sort()).toEqual(nodes)
    expect(Object.keys(onlyUpstreams(config))).toEqual(upstreams)
  })
})

test('all that a route can say', async () => {
  const { routes } = await checked(`
pools: {chat: {policy: key-hash}, chat-v2: {policy: key-hash}}
routes:
  - name: chat
    path: /chat/ws
    host: '*.example.com'
    methods: [GET]
    headers: {x-beta: {present: true}, x-a: exact, x-b: {prefix: v2}, x-c: {equals: c}}
    cookies: {tier: gold}
    query: {v: '2'}
    claims: {realm.roles: beta}
    protocol: websocket
    pool: chat
    split:
      - {pool: chat-v2, percent: 2.5, force: {headers: {x-variant: b}, cookies: {variant: b}}}
    sticky: {by: claim, name: sub, seed: spring}
    affinity: {claim: sub}
`)
  expect(routes[0]).toMatchObject({ name: 'chat', sticky: { by: 'claim' }, split: [{ percent: 2.5 }] })
})

const base = 'pools: {up: {upstreams: [http://a]}}\nroutes:\n  - '
describe('mistakes are named with line and column', () => {
  test.each([
    ['{path: /a, pool: up, protocol: websocket}', '3:22: routes[0].pool: this protocol is served by nodes'],
    ['{path: /a, pool: b, protocol: http}', '3:22: routes[0].pool: expected one of pools (up), got "b"'],
    ['{path: /a, pool: "a b", protocol: sse}', "3:22: routes[0].pool: a pool's name is"],
    ['{path: /a/*, pool: b, protocol: sse}', '3:12: routes[0].path: of sse is without *'],
    ['{path: /a, pool: up, mode: durable}', '3:32: routes[0].mode: goes with protocol: llm'],
    [
      '{path: /a, pool: b, protocol: socket.io, runPools: [c]}',
      '3:56: routes[0].runPools: goes with protocol: websocket, sse, runs',
    ],
    [
      '{path: /a, pool: b, protocol: runs, runPools: [c, up]}',
      '3:55: routes[0].runPools[1]: this protocol is served by nodes',
    ],
    ['{path: /a, pool: b, protocol: runs, runPools: ["c d"]}', '3:52: routes[0].runPools[0]: expected'],
    ['{path: /a, pool: b, protocol: runs, affinity: {ip: true}}', '3:51: routes[0].affinity: runs go to'],
    ['{path: /a, pool: up, protocol: llm, affinity: {ip: true}}', '3:51: routes[0].affinity: of llm is'],
    [
      '{path: /a, pool: b, protocol: sse, affinity: {ip: true}}',
      '3:50: routes[0].affinity: goes with a pool whose policy is key-hash',
    ],
    [
      '{path: /a, pool: up, split: [{pool: b, percent: 1}]}',
      '3:41: routes[0].split[0].pool: expected one of pools',
    ],
    [
      '{path: /a, pool: b, protocol: sse, split: [{pool: c, percent: 60}, {pool: d, percent: 41}]}',
      '3:47: routes[0].split: the parts are 101 percent together',
    ],
    ['{path: /a, pool: b, protocol: sse, sticky: {by: ip}}', '3:48: routes[0].sticky: goes with split'],
    [
      '{path: /a, pool: b, protocol: sse, split: [{pool: c, percent: 1}], sticky: {by: header}}',
      '3:80: routes[0].sticky: by header needs name',
    ],
    [
      '{path: /a, pool: b, protocol: sse, split: [{pool: c, percent: 1}], sticky: {by: cookie, name: "a;b"}}',
      'routes[0].sticky.name: is no name of a cookie',
    ],
    [
      '{path: /a, pool: b, protocol: sse, split: [{pool: c, percent: 101}]}',
      'routes[0].split[0].percent: expected a number from 0 to 100',
    ],
    ['{path: /a, pool: b, protocol: ws}', 'routes[0].protocol: expected one of "http", "llm", "websocket"'],
    ['{path: /a, pool: b, protocol: sse, headers: {"a b": x}}', 'routes[0].headers'],
    ['{path: /a, pool: b, protocol: sse, headers: {a: {suffix: x}}}', 'routes[0].headers.a: expected'],
    [
      '{name: x, path: /a, pool: up}\n  - {name: x, path: /b, pool: up}',
      '4:12: routes[1].name: x is the name of routes[0], too',
    ],
  ])('%s', async (route, message) => {
    await expect(checked(base + route)).rejects.toThrow(message)
  })

  test('what the environment sets is named by its variable', async () => {
    const env = { EVENKEEL_ROUTES: '[{"path": "/a", "pool": "nowhere"}]' }
    await expect(loadConfig({ file: await fileOf('pool: a'), env })).rejects.toThrow(
      'EVENKEEL_ROUTES: routes[0].pool: expected one of pools',
    )
  })

  test('a pool of nodes has no upstreams', async () => {
    await expect(checked('pools:\n  a: {of: nodes, upstreams: [http://a]}')).rejects.toThrow(
      '2:6: pools.a: a pool of nodes has no upstreams',
    )
  })
})
