import { expect, onTestFinished, test, vi } from 'vitest'
import { descendants, isRunning, programOf } from '../support/process-tree.ts'
import { kill, orExit, startChild } from '../support/processes.ts'
import { until } from '../support/until.ts'

interface GatewayLine {
  id: string
  state: string
  publicUrl: string
  internalUrl: string
  sessions: number
  pid: number
}

interface NumbersLine {
  gateways: GatewayLine[]
  nodes: { id: string; state: string; health: string; sessions: number; pid: number }[]
  clients: number
  sent: number
  answered: number
  lost: number
  doubled: number
  reordered: number
  closed: number
}

const patienceMs = 60_000
const clients = 12

function startDemo(args: string[] = [], env: Record<string, string> = {}) {
  const lines: NumbersLine[] = []
  const looks = new Set<() => void>()
  const child = startChild({
    name: 'evenkeel demo',
    script: 'src/cli/main.ts',
    args: ['demo', '--redis', '--no-tty', '--port', '0', '--internal-port', '0', ...args],
    env,
    onLine(line) {
      const value = JSON.parse(line)
      if (value.event === undefined) lines.push(value)
      for (const look of [...looks]) look()
    },
  })
  onTestFinished(() => void kill(child))
  /** The first line from number `from` on that is as wanted. */
  async function line(what: string, wanted: (line: NumbersLine) => boolean, from = 0): Promise<NumbersLine> {
    const find = () => lines.slice(from).find(wanted)
    await orExit(
      child,
      until(() => find() !== undefined, looks, { what, timeoutMs: patienceMs }),
    )
    return find()!
  }
  return { child, lines, line }
}

function sum(rows: { sessions: number }[]): number {
  return rows.reduce((total, { sessions }) => total + sessions, 0)
}

test('two gateways share the nodes and the clients; SIGTERM ends everything, redis-server too', async () => {
  const demo = startDemo(['--clients', String(clients)])
  const before = await demo.line(
    'all talk',
    (line) => line.answered >= 2 * clients && sum(line.gateways) === clients,
  )
  expect(before.gateways.map(({ id, state, sessions }) => [id, state, sessions])).toEqual([
    ['gateway-1', 'up', clients / 2],
    ['gateway-2', 'up', clients / 2],
  ])
  for (const { publicUrl, internalUrl } of before.gateways) {
    for (const url of [publicUrl, internalUrl]) expect((await fetch(`${url}/readyz`)).status).toBe(200)
  }
  expect(before.clients).toBe(clients)
  expect(before.nodes.map(({ id, health }) => [id, health])).toEqual([
    ['node-1', 'healthy'],
    ['node-2', 'healthy'],
    ['node-3', 'healthy'],
  ])
  expect(sum(before.nodes)).toBe(clients)

  const from = demo.lines.length
  const victim = before.nodes[2]!
  expect(victim.sessions).toBeGreaterThan(0)
  process.kill(victim.pid, 'SIGKILL')
  const down = await demo.line(
    'the node is down at both gateways',
    ({ nodes }) => nodes.some(({ id, state }) => id === victim.id && state === 'down'),
    from,
  )
  const after = await demo.line(
    'all go on',
    (line) => line.answered >= down.sent + 5 * clients && sum(line.nodes) === clients,
    from,
  )
  expect(after.clients).toBe(clients)
  for (const { lost, doubled, reordered, closed } of demo.lines) {
    expect({ lost, doubled, reordered, closed }).toEqual({ lost: 0, doubled: 0, reordered: 0, closed: 0 })
  }

  const children = descendants(demo.child.pid)
  if (process.platform === 'linux') expect(children.map(programOf)).toContain('redis-server')
  expect(await kill(demo.child, 'SIGTERM')).toEqual({ code: 0, signal: null })
  expect(children.filter(isRunning)).toEqual([])
}, 120_000)

test('a gateway that is killed is shown as down, and its clients come back at the other', async () => {
  const demo = startDemo(['--clients', String(clients)])
  const before = await demo.line('all talk', (line) => line.answered >= clients)
  const from = demo.lines.length
  process.kill(before.gateways[1]!.pid, 'SIGKILL')
  const after = await demo.line(
    'all talk again',
    ({ gateways, closed }) => closed === clients / 2 && gateways[0]!.sessions === clients,
    from,
  )
  expect(after.gateways.map(({ state, sessions }) => [state, sessions])).toEqual([
    ['up', clients],
    ['down', 0],
  ])
}, 120_000)

test('nothing outlives a demo that is killed', async () => {
  const demo = startDemo(['--clients', '1', '--nodes', '1'])
  await demo.line('it talks', ({ answered }) => answered > 0)
  const children = descendants(demo.child.pid)
  await kill(demo.child)
  await vi.waitFor(() => expect(children.filter(isRunning)).toEqual([]), { timeout: patienceMs })
}, 120_000)

test('without the program redis-server it says how to get it', async () => {
  const demo = startDemo([], { PATH: '/nonexistent' })
  expect(await demo.child.exited).toEqual({ code: 1, signal: null })
  expect(demo.child.log()).toContain('redis-server')
  expect(demo.child.log()).toContain('apt-get install redis-server')
}, 60_000)
