import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { InternalListenerOptions } from '../../src/admin/internal-listener.ts'
import { type AdminServer, startAdminServer } from '../support/admin-server.ts'
import { finish, killChildren, type Result, readUntil, run as runCli, start } from '../support/cli.ts'
import { fakeNode } from '../support/fake-operator.ts'

let admin: AdminServer

beforeEach(async () => {
  admin = await startAdminServer()
})

afterEach(async () => {
  await killChildren()
  await admin[Symbol.asyncDispose]()
})

function run(args: string[], env: Record<string, string> = {}): Promise<Result> {
  return runCli(args, { EVENKEEL_ADMIN_URL: admin.url, ...env })
}

describe('usage', () => {
  test('help and version are done', async () => {
    const [help, version] = await Promise.all([run(['--help']), run(['--version'])])
    expect([help.code, version.code]).toEqual([0, 0])
    for (const command of [
      'gateway',
      'demo',
      'nodes',
      'sessions',
      'drain',
      'activate',
      'weight',
      'upstreams',
      'rebalance',
      'canary',
      'migrate',
      'events',
      'operation',
      'health',
      'config',
    ]) {
      expect(help.stdout).toMatch(new RegExp(`^  ${command}\\b`, 'm'))
    }
    expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  })

  test.each([
    [[], 'Usage: evenkeel'],
    [['nodez'], "unknown command 'nodez'"],
    [['nodes', '--wat'], "unknown option '--wat'"],
    [['drain'], "missing required argument 'node'"],
    [['drain', 'a', '--gateway', 'gw-1'], 'not both'],
    [['drain', '--gateway', 'gw-1', '--rate', '5'], "cannot be used with option '--rate <n>'"],
    [['weight', 'a', 'heavy'], 'above 0 and at most 1000000'],
    [['weight', 'a', '0'], 'above 0 and at most 1000000'],
    [['upstreams', 'add', 'legacy'], "missing required argument 'url'"],
    [['upstreams', 'add', 'legacy', 'http://a', '--weight', '0'], 'above 0 and at most 1000000'],
    [['upstreams', 'remove'], "missing required argument 'upstream'"],
    [['drain', 'a', '--rate', '0'], 'integer from 1 to 1000000'],
    [['canary', 'start', 'chat', '2'], "required option '--percent <n>'"],
    [['canary', 'start', 'chat', '2', '--percent', '51'], 'number from 0.1 to 50'],
    [['canary', 'start', 'chat', '2', '--percent', '1', '--watch', '5'], 'integer from 1000 to'],
    [['canary', 'return'], "missing required argument 'canary'"],
    [['sessions', '--limit', '1001'], 'integer from 1 to 1000'],
    [['gateway', '--port', '70000'], 'integer from 0 to 65535'],
    [['gateway', '--policy', 'best'], 'weighted-least-connections, least-connections, '],
    [['gateway', '--log-level', 'loud'], 'fatal, error, warn'],
    [['demo', '--nodes', '2', '--weights', '1,1,2'], 'needs as many weights'],
    [['demo', '--weights', '1,x'], 'above 0'],
    [['nodes', '--url', 'ftp://gateway'], 'such as http://127.0.0.1:8081'],
    [['nodes', '--url', 'http://me:hunter2@127.0.0.1:1'], 'EVENKEEL_ADMIN_TOKEN'],
  ])('%j is wrong usage', async (args, message) => {
    const result = await run(args)
    expect(result.stderr).toContain(message)
    expect([result.code, result.stdout]).toEqual([2, ''])
  })
})

describe('operator commands', () => {
  test('nodes: an aligned table without colours, or the JSON of the API', async () => {
    admin.operator.nodeList[1] = fakeNode('node-with-a-long-name', { weight: 10, linkRttMs: null })
    const table = await run(['nodes'])
    expect(table).toMatchObject({ code: 0, stderr: '' })
    const [head, first, second] = table.stdout.split('\n')
    expect(head).toMatch(
      /^NODE +POOL +STATE +HEALTH +WEIGHT +SESSIONS +SHARE +FAIR +VERSION +MSG\/S +RTT +HOST +PID$/,
    )
    expect(first).toMatch(
      /^a +default +active +healthy +1 +2 +50\.0 % +50\.0 % +1\.0\.0 +1\.5 +0\.40 ms +host-a +4242$/,
    )
    expect(second!.indexOf('default')).toBe(head!.indexOf('POOL'))
    expect(JSON.parse((await run(['nodes', '--json'])).stdout)).toEqual(admin.operator.nodeList)
  })

  test('colours only when they are asked for; names cannot steer the terminal', async () => {
    admin.operator.nodeList[0] = fakeNode('a\u001b[2J\u0007b')
    const coloured = await run(['nodes'], { FORCE_COLOR: '1' })
    const plain = await run(['nodes'], { NO_COLOR: '1' })
    expect(coloured.stdout).toContain('\u001b[32mactive')
    expect(coloured.stdout).not.toContain('\u001b[2J')
    expect(plain.stdout).not.toContain('\u001b')
    expect(plain.stdout).toContain('a\ufffdb')
  })

  test('sessions: by page and by node', async () => {
    const page = await run(['sessions', '--node', 'a', '--limit', '1'])
    expect(page.stdout).toMatch(/^s1 +default +websocket +a +1 +active/m)
    expect(page.stdout).toContain('There are more: --cursor 1')
    const next = await run(['sessions', '--node', 'a', '--limit', '1', '--cursor', '1', '--json'])
    expect(JSON.parse(next.stdout)).toMatchObject({ sessions: [{ id: 's2' }], next: null })
  })

  test('drain waits for the end, or not', async () => {
    const waited = await run(['drain', 'a', '--deadline', '5000', '--rate', '10'])
    expect(waited).toMatchObject({ code: 0, stderr: '' })
    expect(waited.stdout).toBe(
      'drain of a: done, 2 of 2 moved, 0 failed, pause p50 0.50 ms, p99 1.25 ms, took 12 ms\n',
    )
    expect(admin.operator.calls).toEqual([
      { method: 'drain', args: ['a', { deadlineMs: 5000, ratePerSecond: 10 }] },
    ])
    const started = await run(['drain', 'a', '--no-wait', '--json'])
    expect([started.code, JSON.parse(started.stdout).state]).toEqual([0, 'running'])
  })

  test('canary: start, status, promote and return', async () => {
    const start = [
      'canary',
      'start',
      'chat',
      '2.0',
      '--percent',
      '1.5',
      '--watch',
      '5000',
      '--max-error-ratio',
      '3',
    ]
    const started = await run(start)
    expect(started.stderr).toBe('')
    expect(started.stdout).toMatch(/^canary of chat 2\.0: done, 1 of 1 moved/)
    expect(started.stdout).toMatch(/^c1 +chat +2\.0 +watching +1\.5 % +1\/4 .* 0 : 2 /m)
    const order = { pool: 'chat', version: '2.0', percent: 1.5, watchMs: 5000, maxErrorRatio: 3 }
    expect(admin.operator.calls).toEqual([{ method: 'canary', args: [order] }])
    const raised = await run(['canary', 'promote', 'c1', '--percent', '10', '--json', '--no-wait'])
    expect(JSON.parse(raised.stdout)).toMatchObject({ kind: 'canary', canary: { id: 'c1', percent: 10 } })
    expect(JSON.parse((await run(['canary', 'status', '--json'])).stdout)).toMatchObject([{ id: 'c1' }])
    const returned = await run(['canary', 'return', 'c1'])
    expect(returned.stdout).toMatch(/^c1 .* returning /m)
    const unknown = await run(['canary', 'status', 'zz'])
    expect([unknown.code, unknown.stderr]).toEqual([1, 'evenkeel: There is no canary "zz".\n'])
  })

  test('drain --gateway says how many clients have left', async () => {
    const { code, stdout } = await run(['drain', '--gateway', 'gw-test'])
    expect([code, stdout]).toEqual([
      0,
      'drain of gateway gw-test: done, 3 of 3 left, 0 failed, pause p50 0.50 ms, p99 1.25 ms, took 12 ms\n',
    ])
    expect(admin.operator.calls).toEqual([{ method: 'drainGateway', args: ['gw-test'] }])
    const unknown = await run(['drain', '--gateway', 'zz'])
    expect([unknown.code, unknown.stderr]).toEqual([1, 'evenkeel: There is no gateway "zz".\n'])
  })

  test('an operation that failed is exit code 1', async () => {
    admin.operator.operationsEnd = 'failed'
    const [drain, migrate] = await Promise.all([run(['drain', 'a']), run(['migrate', 's1', 'b', '--json'])])
    expect([drain.code, migrate.code]).toEqual([1, 1])
    expect(drain.stderr).toContain('drain of a failed: 0 of 2 moved, 2 failed')
    expect(JSON.parse(migrate.stdout)).toMatchObject({ kind: 'migrate', state: 'failed' })
  })

  test('upstreams: listed, added, removed', async () => {
    const { upstreamList } = admin.operator
    const table = await run(['upstreams'])
    expect([table.code, table.stdout]).toEqual([
      0,
      expect.stringMatching(/^UPSTREAM +POOL +URL.*\nu1 +legacy +http/),
    ])
    const add = ['upstreams', 'add', 'legacy', 'http://10.0.0.7:3000', '--weight', '2', '--id', 'u2']
    expect((await run(add)).stdout).toMatch(/u2 +legacy.* unhealthy +not probed yet\n$/)
    expect(JSON.parse((await run(['upstreams', '--json'])).stdout)).toEqual(upstreamList)
    const another = await run(['upstreams', 'add', 'legacy', 'http://10.0.0.8:3000', '--json'])
    expect(JSON.parse(another.stdout)).toMatchObject({ id: 'new', weight: 1 })
    const refused = await run(['upstreams', 'add', 'legacy', 'http://169.254.169.254'])
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('metadata')])
    expect((await run(['upstreams', 'remove', 'u2'])).stdout).toBe('u2 is removed.\n')
    expect(JSON.parse((await run(['upstreams', 'remove', 'new', '--json'])).stdout)).toEqual({
      removed: 'new',
    })
    expect(upstreamList.map(({ id }) => id)).toEqual(['u1'])
  })

  test('activate, weight and operation', async () => {
    expect((await run(['activate', 'a'])).stdout).toMatch(/^a +default +active/m)
    expect(JSON.parse((await run(['weight', 'a', '2.5', '--json'])).stdout).weight).toBe(2.5)
    await run(['drain', 'a'])
    expect((await run(['operation', 'op-1'])).stdout).toMatch(/^op-1 +drain +a +done +2\/2/m)
  })

  test('migrate takes any session id', async () => {
    const result = await run(['migrate', 's/4 ü', 'a'])
    expect(result).toMatchObject({ code: 0, stdout: expect.stringContaining('migrate of s/4 ü: done') })
    expect(admin.operator.calls).toEqual([{ method: 'migrate', args: ['s/4 ü', 'a'] }])
  })

  test('rebalance: the plan, then the operation; a dry run moves nothing', async () => {
    const dry = await run(['rebalance', '--dry-run'])
    expect(dry.stdout).toContain(
      'pool default: 1 to move (dry run, nothing moves), imbalance 50.0 %, 0.0 % after',
    )
    expect(dry.stdout).not.toContain('done')
    expect((await run(['rebalance'])).stdout).toContain('rebalance of default: done, 1 of 1 moved')
    admin.operator.nodeList.push(fakeNode('c', { pool: 'llm' }))
    const both = JSON.parse((await run(['rebalance', '--json'])).stdout)
    expect(both.plans.map((plan: { operation: { state: string } }) => plan.operation.state)).toEqual([
      'done',
      'done',
    ])
    const one = await run(['rebalance', '--pool', 'llm'])
    expect(one.stdout).toContain('pool llm')
  })

  test('events: one line each, until a signal', async () => {
    const child = start(['events', '--json'], { EVENKEEL_ADMIN_URL: admin.url })
    const own = admin.operator.listeners.size
    while (admin.operator.listeners.size === own) await new Promise((resolve) => setImmediate(resolve))
    admin.operator.emit({ at: 5, type: 'node-up', node: 'c', pool: 'default' })
    const text = await readUntil(child, '\n')
    expect(JSON.parse(text)).toEqual({ at: 5, type: 'node-up', node: 'c', pool: 'default' })
    child.kill('SIGINT')
    expect((await once(child, 'close'))[0]).toBe(0)
  })

  test('events: the end of the gateway is a failure', async () => {
    const child = start(['events'], { EVENKEEL_ADMIN_URL: admin.url })
    const result = finish(child)
    const own = admin.operator.listeners.size
    while (admin.operator.listeners.size === own) await new Promise((resolve) => setImmediate(resolve))
    admin.operator.emit({ at: 5, type: 'session-lost', session: 's1', reason: 'held too long' })
    child.stdout?.once('data', () => admin.server.closeAllConnections())
    expect(await result).toMatchObject({
      code: 1,
      stdout: '00:00:00.005  session-lost  s1: held too long\n',
      stderr: 'evenkeel: The stream of events broke off.\n',
    })
  })

  test('health', async () => {
    expect(await run(['health'])).toMatchObject({
      code: 0,
      stdout: `The gateway at ${admin.url} is ready.\n`,
    })
    admin.operator.ready = { ready: false, reasons: ['no node'] }
    const notReady = await run(['health', '--json'])
    expect([notReady.code, JSON.parse(notReady.stdout)]).toEqual([1, { ready: false, reasons: ['no node'] }])
    expect(notReady.stderr).toContain('not ready: no node')
  })
})

describe('what goes wrong', () => {
  async function withToken(
    change: Partial<InternalListenerOptions>,
    act: (url: string) => Promise<void>,
  ): Promise<void> {
    await using other = await startAdminServer(change)
    await act(other.url)
  }

  test('what the gateway refuses is said in its words', async () => {
    expect(await run(['drain', 'zz'])).toEqual({
      code: 1,
      stdout: '',
      stderr: 'evenkeel: There is no node "zz".\n',
    })
  })

  test('no gateway: the address and the remedy', async () => {
    const free = createServer().listen(0, '127.0.0.1')
    await once(free, 'listening')
    const url = `http://127.0.0.1:${(free.address() as AddressInfo).port}`
    free.close()
    await once(free, 'close')
    const result = await run(['nodes', '--url', url])
    expect(result.code).toBe(1)
    expect(result.stderr).toContain(`Cannot reach a gateway at ${url} (ECONNREFUSED)`)
    expect(result.stderr).toContain('EVENKEEL_ADMIN_URL')
  })

  test('the token comes from the environment', async () => {
    await withToken({ adminToken: 's3cret' }, async (url) => {
      const refused = await run(['nodes', '--url', url], { EVENKEEL_ADMIN_TOKEN: 'wrong' })
      expect([refused.code, refused.stdout]).toEqual([1, ''])
      expect(refused.stderr).toContain('set EVENKEEL_ADMIN_TOKEN')
      const streams = await run(['events', '--url', url])
      expect([streams.code, streams.stderr.includes('EVENKEEL_ADMIN_TOKEN')]).toEqual([1, true])
      expect((await run(['nodes', '--url', url], { EVENKEEL_ADMIN_TOKEN: 's3cret' })).code).toBe(0)
    })
  })

  test('something else listens there', async () => {
    const other = createServer((_request, response) => response.end('hello')).listen(0, '127.0.0.1')
    await once(other, 'listening')
    const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`
    for (const command of ['nodes', 'health']) {
      const result = await run([command, '--url', url])
      expect([result.code, result.stderr.includes('internal listener')]).toEqual([1, true])
    }
    other.close()
    other.closeAllConnections()
  })
})
