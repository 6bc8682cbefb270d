import { EvenkeelError, type SessionHandlers } from 'evenkeel/sdk'
import { expect, onTestFinished, test, vi } from 'vitest'
import { WebSocket } from 'ws'
import { startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'
import { Migrations } from '../support/migrations.ts'
import { Recorder } from '../support/recorder.ts'

interface World {
  gateway: TestGateway
  ask(text: string): Promise<string>
  /** Moves the session, and returns how that ended. */
  move(to: string): Promise<string>
  events: string[]
}

/** A session at node `a`, which counts messages in its state. `more`: handlers of both nodes. */
async function world(more: (id: string) => SessionHandlers<number>): Promise<World> {
  const gateway = await startTestGateway({ rebalance: { enabled: false } as never })
  const events: string[] = []
  const start = (id: string) =>
    startTestNode(
      gateway,
      {
        open: (session) => void events.push(`${id} open ${session.recovered}`),
        message(session, data) {
          session.state = (Number(session.state) || 0) + 1
          session.send(`${id} ${session.state} ${data}`)
        },
        released: () => void events.push(`${id} released`),
        ...(more(id) as SessionHandlers),
      },
      { id },
    )
  await start('a')
  const ws = new WebSocket(gateway.wsUrl)
  onTestFinished(() => ws.terminate())
  const answers = new Recorder<string>()
  ws.on('message', (data) => answers.add(String(data)))
  await new Promise((resolve) => ws.once('open', resolve))
  await start('b')
  const migrations = new Migrations(gateway)
  return {
    gateway,
    events,
    async ask(text) {
      const before = answers.items.length
      ws.send(text)
      await answers.until((items) => items.length > before)
      return answers.items.at(-1)!
    },
    async move(to) {
      return (await migrations.start(gateway.operator.sessions({}).sessions[0]!.id, to)).outcome
    },
  }
}

test('the target prepares with the committed state, and what it throws keeps the session at its source', async () => {
  let mayCome = false
  const prepared: unknown[] = []
  const { ask, move, events } = await world(() => ({
    async prepare(session) {
      prepared.push([session.state, session.open])
      await Promise.resolve()
      if (!mayCome) throw new Error('not here')
    },
  }))
  expect(await ask('x')).toBe('a 1 x')
  expect(await move('b')).toBe('vetoed')
  expect(await ask('y')).toBe('a 2 y')
  // A veto says nothing of the node: it gets what comes next.
  mayCome = true
  expect(await move('b')).toBe('moved')
  expect(await ask('z')).toBe('b 3 z')
  expect(prepared).toEqual([
    [1, false],
    [2, false],
  ])
  await vi.waitUntil(() => events.length === 3, { timeout: 10_000 })
  expect([...events].sort()).toEqual(['a open false', 'a released', 'b open true'])
})

test('a source that vetoes goes on, with the messages that have waited', async () => {
  let mayLeave = false
  const { ask, move, events } = await world((id) => ({
    prepare: () => {},
    async close(_session, { cause }) {
      events.push(`${id} close ${cause}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
      if (!mayLeave) throw new EvenkeelError('VETO', 'something is going on')
    },
  }))
  expect(await ask('x')).toBe('a 1 x')
  const moving = move('b')
  expect(await ask('y')).toBe('a 2 y')
  expect(await moving).toBe('vetoed')
  await vi.waitUntil(() => events.length === 4, { timeout: 10_000 })
  expect(events.slice(0, 2)).toEqual(['a open false', 'a close migrated'])
  expect(events.slice(2).sort()).toEqual(['a open true', 'b released'])
  mayLeave = true
  expect(await move('b')).toBe('moved')
  expect(await ask('z')).toBe('b 3 z')
  await vi.waitUntil(() => events.length === 7, { timeout: 10_000 })
  expect(events.slice(4).sort()).toEqual(['a close migrated', 'a released', 'b open true'])
})
