import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { Demo } from '../../src/cli/demo/demo.ts'
import { descendants, isRunning } from '../support/process-tree.ts'
import { kill, orExit, startChild } from '../support/processes.ts'
import { until } from '../support/until.ts'

interface ReadyLine {
  event: 'ready'
  public: string
  internal: string
}

interface NumbersLine {
  at: number
  nodes: { id: string; state: string; weight: number; sessions: number; pid: number }[]
  clients: number
  sent: number
  answered: number
  migrations: number
  pauseMs: { p50: number; p99: number } | null
  lost: number
  doubled: number
  reordered: number
  closed: number
  redelivered: number
}

const patienceMs = 60_000

/** The real CLI on free ports. Its lines are waited for, never a time. */
function startDemo(...args: string[]) {
  const lines: (ReadyLine | NumbersLine)[] = []
  const looks = new Set<() => void>()
  const child = startChild({
    name: 'evenkeel demo',
    script: 'src/cli/main.ts',
    args: ['demo', '--no-tty', '--port', '0', '--internal-port', '0', ...args],
    onLine(line) {
      lines.push(JSON.parse(line))
      for (const look of [...looks]) look()
    },
  })
  onTestFinished(() => void kill(child))
  const numbers = () => lines.slice(1) as NumbersLine[]
  /** The first line from number `from` on that is as wanted. */
  async function line(what: string, wanted: (line: NumbersLine) => boolean, from = 0): Promise<NumbersLine> {
    const find = () => numbers().slice(from).find(wanted)
    const found = until(() => find() !== undefined, looks, { what, timeoutMs: patienceMs })
    await orExit(child, found)
    return find()!
  }
  async function ready(): Promise<ReadyLine> {
    await orExit(
      child,
      until(() => lines.length > 0, looks, { what: 'ready', timeoutMs: patienceMs }),
    )
    return lines[0] as ReadyLine
  }
  return { child, numbers, line, ready }
}

function sessionsOf({ nodes }: NumbersLine): number {
  return nodes.reduce((sum, { sessions }) => sum + sessions, 0)
}

describe('evenkeel demo --no-tty', () => {
  test('a node is killed and its clients notice nothing; SIGTERM ends everything', async () => {
    const clients = 12
    const demo = startDemo('--clients', String(clients))
    const ready = await demo.ready()
    expect(ready.event).toBe('ready')
    const health = await Promise.all([ready.public, ready.internal].map((url) => fetch(`${url}/healthz`)))
    expect(health.map(({ status }) => status)).toEqual([200, 200])

    const before = await demo.line('all talk', (line) => line.clients === clients && line.answered >= clients)
    expect(before.nodes.map(({ id, weight, state }) => [id, weight, state])).toEqual([
      ['node-1', 1, 'active'],
      ['node-2', 1, 'active'],
      ['node-3', 2, 'active'],
    ])
    expect(sessionsOf(before)).toBe(clients)

    const victim = before.nodes[2]!
    expect(victim.sessions).toBeGreaterThan(0)
    const from = demo.numbers().length
    process.kill(victim.pid, 'SIGKILL')
    const down = await demo.line(
      'the node is down',
      ({ nodes }) => nodes.some(({ id, state }) => id === victim.id && state === 'down'),
      from,
    )
    // Every client has had several answers since, so that a number that was skipped would have been seen.
    const after = await demo.line('all go on', (line) => line.answered >= down.sent + 5 * clients, from)
    expect(after.nodes.find(({ id }) => id === victim.id)?.sessions).toBe(0)
    expect(sessionsOf(after)).toBe(clients)
    expect(after.clients).toBe(clients)
    for (const { lost, doubled, reordered, closed } of demo.numbers()) {
      expect({ lost, doubled, reordered, closed }).toEqual({ lost: 0, doubled: 0, reordered: 0, closed: 0 })
    }

    const children = descendants(demo.child.pid)
    expect(await kill(demo.child, 'SIGTERM')).toEqual({ code: 0, signal: null })
    expect(children.filter(isRunning)).toEqual([])
  }, 120_000)

  test('no child outlives a demo that is killed', async () => {
    const demo = startDemo('--clients', '1', '--weights', '1,3')
    const line = await demo.line('all talk', ({ clients }) => clients === 1)
    const children = descendants(demo.child.pid)
    expect(children.length).toBe(process.platform === 'linux' ? 3 : 0)
    const pids = [...children, ...line.nodes.map(({ pid }) => pid)]
    await kill(demo.child)
    await vi.waitFor(() => expect(pids.filter(isRunning)).toEqual([]), { timeout: patienceMs })
  }, 120_000)

  test('without clients it serves those of others', async () => {
    const demo = startDemo('--clients', '0', '--nodes', '1')
    const ready = await demo.ready()
    const socket = new WebSocket(`${ready.public.replace('http', 'ws')}/ws`)
    await once(socket, 'open')
    const answer = once(socket, 'message')
    socket.send('hello')
    expect(JSON.parse((await answer)[0].data)).toEqual({ node: 'node-1', count: 1, echo: 'hello' })
    const line = await demo.line('the session shows', (line) => sessionsOf(line) === 1)
    expect(line).toMatchObject({ clients: 0, migrations: 0, pauseMs: null, redelivered: 0 })
    socket.close()
  }, 120_000)

  test.each(['--port', '--internal-port'])('a taken port is named with %s', async (flag) => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    onTestFinished(() => void other.close())
    const { port } = other.address() as AddressInfo
    const demo = startDemo(flag, String(port))
    expect(await demo.child.exited).toEqual({ code: 1, signal: null })
    expect(demo.child.log()).toContain(`Cannot listen on port ${port}`)
    expect(demo.child.log()).toContain(`with ${flag} `)
  })
})

describe('the keys of the demo', () => {
  test('a adds a node, r rebalances, d drains one, k kills one, but never the last', async () => {
    const demo = await Demo.open({
      weights: [2, 1],
      clients: 10,
      port: 0,
      internalPort: 0,
      policy: 'weighted-least-connections',
      rebalanceIntervalMs: 0,
      redis: false,
      tty: true,
    })
    onTestFinished(() => demo.close())
    const states = () => demo.monitor.nodes().map(({ state }) => state)
    const active = () => states().filter((state) => state === 'active').length
    const noted = (text: string) => demo.monitor.notes.some((note) => note.text.includes(text))
    const soon = (condition: () => boolean) =>
      vi.waitFor(() => expect(condition()).toBe(true), { timeout: patienceMs })

    await demo.populate()
    demo.press('r')
    await soon(() => noted('nothing to move'))
    demo.press('a')
    await soon(() => active() === 3)
    expect(demo.monitor.nodes().map(({ id, weight }) => [id, weight])).toEqual([
      ['node-1', 2],
      ['node-2', 1],
      ['node-3', 2],
    ])
    await soon(() => demo.monitor.nodes().every(({ sessions }) => sessions > 0))
    demo.press('d')
    await soon(() => noted('drain done') && states().length === 2)
    demo.press('k')
    await soon(() => states().includes('down'))
    demo.press('k')
    demo.press('d')
    expect(demo.monitor.notes.filter(({ text }) => text.includes('press a first')).length).toBe(2)
    expect(active()).toBe(1)
  }, 120_000)
})
