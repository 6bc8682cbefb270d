import { readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { DocsScene, expandNpm, type Result, type RunningCommand } from '../support/docs-scene.ts'
import { installPackage } from '../support/install-package.ts'
import { blocksOf, type Command, commandsOf, guides } from '../support/markdown.ts'
import { elsewhere } from './elsewhere.ts'

const root = path.resolve(import.meta.dirname, '../..')
const read = (file: string) => readFileSync(path.join(root, file), 'utf8')

/** From a checkout and from the package it is the same command. */
const commands: Command[] = guides()
  .flatMap((file) => blocksOf(file, 'sh', 'console').flatMap(commandsOf))
  .map(({ where, text }) => ({ where, text: text.replace(/^npm run evenkeel -- /, 'evenkeel ') }))

let scene: DocsScene

/** One command of the pages, and what it does in the scene. They run in this order. */
interface Step {
  command: string
  /** What it has to print. */
  prints?: RegExp
  /** A command that goes on by itself is stopped by SIGTERM when it has printed this. */
  until?: string
  /** What the page leaves to the reader. */
  replace?: readonly (readonly [string, string])[]
  /** In place of all this. */
  act?(command: string): Promise<void>
  after?(result: Result): unknown
}

const image = (name: string) => (): void => {
  const isTheSame =
    readFileSync(path.join(scene.directory, `${name}.svg`), 'utf8') === read(`docs/images/${name}.svg`)
  expect(
    isTheSame,
    `docs/images/${name}.svg is another picture now: run the command, and look at its page`,
  ).toBe(true)
}

interface Canary {
  id: string
  state: string
}

async function liveCanary(): Promise<Canary | undefined> {
  const canaries = await scene.call<Canary[]>('GET', '/canaries')
  return canaries.find(({ state }) => state !== 'returned' && state !== 'ended')
}

async function returnCanary(): Promise<void> {
  const { id } = (await liveCanary())!
  await scene.call('POST', `/canaries/${id}/return`)
  await vi.waitFor(async () => expect(await liveCanary()).toBeUndefined(), { timeout: 20_000 })
}

/** With nodes that can take the whole pool. */
async function newCanary(): Promise<string> {
  await vi.waitFor(async () => expect(await liveCanary()).toBeUndefined(), { timeout: 20_000 })
  const order = { pool: 'chat', version: '2.0', percent: 10 }
  const { canary } = await scene.call<{ canary: Canary }>('POST', '/canaries', order)
  await scene.call('PATCH', '/nodes/chat-9', { weight: 1 })
  return canary.id
}

let oldParent: RunningCommand
let newParent: RunningCommand

/** Of docs/getting-started.md. */
const chatClient =
  `node -e "const s = new WebSocket('ws://127.0.0.1:8080/ws'); s.onopen = () => console.log('connected'); ` +
  `s.onmessage = (m) => console.log(m.data); process.stdin.on('data', (line) => s.send(String(line).trim()))"`

const small: Step['replace'] = [['--nodes 1000 --sessions 1000000', '--nodes 20 --sessions 2000']]

const steps: Step[] = [
  { command: 'evenkeel --help', prints: /Commands:/ },
  { command: 'evenkeel nodes', prints: /^chat-9 +chat +active .* 2\.0 /m },
  { command: 'evenkeel health', prints: /is ready/ },
  { command: 'evenkeel sessions --node chat-1', prints: /^\S+ +default +websocket +chat-1 /m },
  {
    command: 'evenkeel events',
    async act(command) {
      const running = scene.begin(command)
      const { sessions } = await scene.call<{ sessions: { id: string }[] }>('GET', '/sessions?node=chat-1')
      // It does not say when it listens, so one session goes to and fro until it was heard.
      let moves = 0
      const timer = setInterval(() => {
        const to = moves++ % 2 === 0 ? 'chat-2' : 'chat-1'
        scene.call('POST', `/sessions/${sessions[0]!.id}/migrate`, { to }).catch(() => {})
      }, 100)
      await running.prints('migration').finally(() => clearInterval(timer))
      expect(await running.stop()).toBe(0)
    },
  },
  { command: 'evenkeel top', until: '"chat-2"' },
  { command: 'evenkeel gateways', prints: /^gw-2 /m },
  { command: 'evenkeel rebalance --dry-run', prints: /^pool default: /m },
  { command: 'evenkeel weight chat-2 3', prints: /^chat-2 +default +active +healthy +3 /m },
  {
    command: 'evenkeel drain chat-1',
    prints: /^drain of chat-1: done/m,
    after: () => scene.call('POST', '/nodes/chat-1/activate'),
  },
  {
    command: 'evenkeel drain chat-1 --rate 100',
    prints: /^drain of chat-1: done/m,
  },
  { command: 'evenkeel activate chat-1', prints: /^chat-1 +default +active/m },
  { command: 'evenkeel channel room:7', prints: /room:7/ },
  { command: `evenkeel publish news '{"text":"hello"}'`, prints: /^published; \d members/ },
  { command: `redis-cli PUBLISH evenkeel:channel:news '{"text":"hello"}'`, prints: /^\d$/m },
  { command: `redis-cli -c SPUBLISH evenkeel:channel:news '{"text":"hello"}'`, prints: /^\d$/m },
  {
    command: `curl -N -d '{"name": "chat", "body": {"prompt": "hello"}}' http://127.0.0.1:8080/runs`,
    prints: /token 24/,
  },
  { command: "curl -N 'http://127.0.0.1:8080/runs/ID/events?after=1-17'", prints: /token 18/ },
  { command: 'curl -X POST http://127.0.0.1:8080/runs/ID/cancel' },
  { command: 'curl -N http://127.0.0.1:8080/runs/$RUN/events?after=1-20', prints: /token 21/ },
  { command: 'curl -X POST http://127.0.0.1:8080/runs/$RUN/cancel' },
  {
    command: `curl -X PATCH localhost:8081/api/v1/routes/chat -H 'content-type: application/json' -d '{"pool": "green"}'`,
    prints: /"green"/,
    after: () => scene.call('PATCH', '/routes/chat', { pool: 'chat' }),
  },
  { command: 'evenkeel upstreams' },
  { command: 'evenkeel upstreams add legacy http://10.0.0.9:3000 --weight 2', prints: /legacy/ },
  { command: 'evenkeel upstreams remove 10.0.0.9:3000', prints: /is removed/ },
  {
    command: `redis-cli HSET 'evenkeel:{upstreams}:entries' chat-9 '{"pool":"legacy","url":"http://10.0.0.9:3000"}'`,
    prints: /^1$/m,
  },
  {
    command: 'evenkeel canary start chat 2 --percent 1',
    prints: /^canary of chat 2: done/m,
    after: returnCanary,
  },
  { command: 'evenkeel canary start chat 2.0 --percent 1', prints: /^canary of chat 2\.0: done/m },
  { command: 'evenkeel canary status', prints: /chat +2\.0 +watching/ },
  ...[
    'evenkeel canary promote can_… --percent 10',
    'evenkeel canary return can_…',
    'evenkeel canary promote can_…',
  ].map(
    (command): Step => ({
      command,
      async act(text) {
        const id = (await liveCanary())?.id ?? (await newCanary())
        const result = await scene.run(text.replace('can_…', id))
        expect(result).toMatchObject({ code: 0, stderr: '' })
        expect(result.stdout).toContain(id)
      },
    }),
  ),
  { command: 'evenkeel config check gateway.yaml', prints: /gateway\.yaml: valid/ },
  { command: 'evenkeel config schema', prints: /"migrationsPerSecond"/ },
  { command: 'evenkeel config print', prints: /^# gateway gw-1, hash/m },
  { command: 'evenkeel config reload --dry-run' },
  { command: 'evenkeel config reload' },
  {
    command: 'npm run example:echo -- --id chat-1 --weight 2 --gateway ws://127.0.0.1:8081',
    replace: [['--id chat-1', '--id echo-1']],
    until: 'node echo-1 serves pool default with weight 2',
  },
  {
    command: 'npm run example:echo -- --id chat-1 --redis redis://127.0.0.1:6379',
    replace: [['--id chat-1', '--id echo-2']],
    until: 'node echo-2 serves pool default',
  },
  { command: 'evenkeel gateway --port 8080 --internal-port 8081', until: 'gateway ready' },
  ...['chat-1', 'chat-2'].map(
    (id): Step => ({
      command: `npm run example:chat -- ${id}`,
      replace: [[` ${id}`, ` talk-${id}`]],
      until: `node talk-${id} is linked`,
    }),
  ),
  {
    command: chatClient,
    async act(command) {
      const client = scene.begin(command)
      await client.prints('connected')
      client.type('hello\n')
      await client.prints('hello')
      await client.stop()
    },
  },
  {
    command: 'evenkeel gateway --workers 4 --redis redis://127.0.0.1:6379',
    // On a port that the next one can share; two workers show as much as four.
    async act(command) {
      const port = String(await freePort())
      const env = {
        EVENKEEL_PUBLIC_HOST: '127.0.0.1',
        EVENKEEL_PUBLIC_PORT: port,
        EVENKEEL_INTERNAL_PORT: '0',
      }
      sharedEnv = { ...env, EVENKEEL_REDIS: scene.redis.url, EVENKEEL_LIMITS_GATEWAY_DRAIN_MS: '100' }
      oldParent = scene.begin(command.replace('--workers 4', '--workers 2'), sharedEnv)
      await oldParent.prints('"workers"')
    },
  },
  {
    command: 'evenkeel gateway --workers 4 --internal-port 9081 &',
    async act(command) {
      const foreground = command.replace('--workers 4', '--workers 2').replace(/ &$/, '')
      newParent = scene.begin(foreground, sharedEnv)
      await newParent.prints('"workers"')
    },
  },
  {
    command: 'kill -TERM $OLD_PARENT',
    async act(command) {
      const { code } = await scene.run(command, { OLD_PARENT: String(oldParent.pid) })
      expect([code, await oldParent.exited, await newParent.stop()]).toEqual([0, 0, 0])
    },
  },
  // Nobody comes back from this one, so it is the last of those that ask for gateways.
  {
    command: 'evenkeel drain --gateway gw-1',
    replace: [['gw-1', 'gw-2']],
    prints: /^drain of gateway gw-2: done/m,
  },
  {
    command:
      'evenkeel simulate join --policy round-robin,weighted-least-connections --rebalance off,sessions --svg docs/images/join.svg',
    after: image('join'),
  },
  {
    command: 'evenkeel simulate hot --rebalance off,sessions,traffic --svg docs/images/hot.svg',
    after: image('hot'),
  },
  {
    command:
      'evenkeel simulate slow --policy weighted-least-connections,least-response-time,power-of-two-choices --rebalance off --svg docs/images/slow.svg',
    after: image('slow'),
  },
  {
    command: 'evenkeel simulate leave --rebalance off,sessions --svg docs/images/leave.svg',
    after: image('leave'),
  },
  {
    command: 'evenkeel simulate join --nodes 1000 --sessions 1000000 --budget 5000',
    replace: small,
    prints: /sessions .* 0\.0 %/,
  },
  { command: 'evenkeel simulate leave --nodes 1000 --sessions 1000000', replace: small, prints: /cut off/ },
  {
    command: 'evenkeel simulate hot',
    replace: [['simulate hot', 'simulate hot --nodes 10 --sessions 1000']],
    prints: /even after/,
  },
]

let sharedEnv: Record<string, string> = {}

async function freePort(): Promise<number> {
  const { createServer } = await import('node:net')
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

beforeAll(async () => {
  installPackage('curl', 'curl')
  scene = await DocsScene.start()
}, 60_000)
afterAll(() => scene?.stop())

test('every command of README.md and docs/ is run below or listed in elsewhere.ts, and these name no other', () => {
  const known = new Set([...steps, ...elsewhere].map(({ command }) => command))
  const missing = commands
    .filter(({ text }) => !known.has(text))
    .map(
      ({ where, text }) =>
        `${where}: \`${text}\` is run by no test; add it to "steps" in test/docs/commands.test.ts, or with a reason to test/docs/elsewhere.ts`,
    )
  expect(missing).toEqual([])
  const documented = new Set(commands.map(({ text }) => text))
  const stale = [...steps, ...elsewhere].filter(({ command }) => !documented.has(command))
  expect(stale.map(({ command }) => `\`${command}\` is in no page any more`)).toEqual([])
})

/** Those that ask no gateway need not wait for each other. */
const isAlone = (command: string) => /^evenkeel (--help|simulate|config (check|schema))/.test(command)

async function runStep({ command, prints, until, replace = [], act, after }: Step): Promise<void> {
  const adapted = replace.reduce((text, [from, to]) => text.replace(from, to), await expandNpm(command))
  if (act !== undefined) return act(adapted)
  const env = { RUN: scene.runId }
  if (until !== undefined) {
    const running = scene.begin(adapted, env)
    await running.prints(until)
    expect([0, null]).toContain(await running.stop())
    return
  }
  const result = await scene.run(adapted, env)
  expect(result).toMatchObject({ code: 0 })
  if (prints !== undefined) expect(result.stdout).toMatch(prints)
  await after?.(result)
}

describe('run here', () => {
  test.each(steps.filter(({ command }) => !isAlone(command)))('$command', runStep)
  test.concurrent.each(steps.filter(({ command }) => isAlone(command)))('$command', runStep)

  test('none of the clients was disconnected meanwhile', () => {
    expect(scene.lost).toBe(0)
  })
})

describe('not run here, but looked at', () => {
  test.each(elsewhere)('$command ($why)', async ({ check }) => {
    await check()
  })
})
