import { expect, onTestFinished, test } from 'vitest'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { kill, orExit, startChild } from '../support/processes.ts'
import { Recorder } from '../support/recorder.ts'
import { connectClient, startSocketIoNode, until } from '../support/socket-io.ts'

/** What operators hear of sessions that went on elsewhere. */
function tiersOf({ operator }: TestGateway): string[] {
  const tiers: string[] = []
  operator.onEvent((event) => {
    if (event.type === 'continued') tiers.push(`${event.cause} ${event.tier}`)
  })
  return tiers
}

async function nodeProcess({ linkUrl }: TestGateway, id: string) {
  const child = startChild({
    name: `node ${id}`,
    script: 'test/support/socket-io-node.ts',
    args: [`--id=${id}`, `--gateway=${linkUrl}`],
    ipc: true,
  })
  onTestFinished(async () => void (await kill(child)))
  await orExit(child, new Promise((resolve) => child.process.once('message', resolve)))
  return child
}

test('clients of a node that was killed keep their ids, rooms and data, and their events are answered', async () => {
  const gateway = await startTestGateway()
  const tiers = tiersOf(gateway)
  const first = await nodeProcess(gateway, 'a')
  const client = await connectClient(gateway, { auth: { room: 'blue' } })
  const second = client.io.socket('/second')
  await until(() => second.connected)
  const count = () => new Promise((resolve) => client.emit('count', (...args: unknown[]) => resolve(args)))
  expect(await count()).toEqual([1, 'a', false])
  expect(await count()).toEqual([2, 'a', false])
  const [before] = await Promise.all([second.emitWithAck('who')])
  // Saved at most a second after it was said.
  const session = () => gateway.operator.sessions({}).sessions[0]!
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  await nodeProcess(gateway, 'b')
  await kill(first, 'SIGKILL')
  expect(await count()).toEqual([3, 'b', true])
  expect(await client.emitWithAck('rooms')).toEqual(['all', 'blue', client.id].sort())
  expect(await second.emitWithAck('who')).toBe(before)
  expect(session().node).toBe('b')
  expect([client.losses, client.idsSeen.length]).toEqual([[], 1])
  expect(tiers).toEqual(['recovery exact'])
})

test('what a client is in is saved at once, though the rest is saved once a second', async () => {
  const gateway = await startTestGateway()
  const first = await nodeProcess(gateway, 'a')
  const client = await connectClient(gateway, { auth: { room: 'blue' } })
  await client.emitWithAck('rooms')
  await new Promise((resolve) => setTimeout(resolve, 300))
  await nodeProcess(gateway, 'b')
  await kill(first, 'SIGKILL')
  expect(await client.emitWithAck('rooms')).toEqual(['all', 'blue', client.id].sort())
  expect([client.losses, client.idsSeen.length]).toEqual([[], 1])
})

test('a session without a state that can be used begins anew, and its client sees a second connect', async () => {
  const gateway = await startTestGateway()
  const tiers = tiersOf(gateway)
  const app = (io: import('socket.io').Server, id: string) => {
    io.on('connection', (socket) => {
      void socket.join(`room of ${id}`)
      socket.data.function = () => 1
      socket.on('where', (answer) => answer(id))
    })
  }
  const first = await startSocketIoNode([gateway], app, { id: 'a' })
  const client = await connectClient(gateway)
  expect(await client.emitWithAck('where')).toBe('a')
  const second = await startSocketIoNode([gateway], app, { id: 'b' })
  await first.stop()
  await until(() => client.idsSeen.length === 2)
  expect(await client.emitWithAck('where')).toBe('b')
  const heard = new Recorder<string>()
  client.on('heard', (word) => heard.add(word))
  second.io.to('room of a').emit('heard', 'of a room that it has left')
  second.io.to('room of b').emit('heard', 'of its room')
  await heard.until((items) => items.includes('of its room'))
  expect(heard.items).toEqual(['of its room'])
  expect(client.losses).toEqual([])
  expect(tiers).toEqual(['recovery soft'])
})

test("with fallback 'close' its client comes back by itself", async () => {
  const gateway = await startTestGateway()
  const tiers = tiersOf(gateway)
  const app = (io: import('socket.io').Server) => {
    io.on('connection', (socket) => {
      socket.data.function = () => 1
    })
  }
  const first = await startSocketIoNode([gateway], app, { id: 'a' })
  const client = await connectClient(gateway, { reconnection: true, reconnectionDelay: 10 })
  await startSocketIoNode([gateway], app, { id: 'b', fallback: 'close' })
  await first.stop()
  await until(() => client.idsSeen.length === 2)
  expect(client.losses).toEqual(['transport close'])
  expect(tiers).toEqual(['recovery close'])
  const metrics = await fetch(`${gateway.internalUrl}/metrics`)
  expect(await metrics.text()).toContain('evenkeel_continued_sessions_total{cause="recovery",tier="close"} 1')
})
