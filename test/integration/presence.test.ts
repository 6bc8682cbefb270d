import { connect } from 'evenkeel/client'
import { Presence } from 'evenkeel/client/presence'
import { createPresence, type EvenkeelNode, type SessionHandlers } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { parsePresence } from '../../src/protocol/presence.ts'
import { startTestGateway, startTestNode, type TestGateway } from '../support/in-process.ts'

/** Who is in a channel, as nodes say it, with real nodes and clients. */

const room = 'room:7'

async function startNode(gateway: TestGateway, id: string): Promise<EvenkeelNode> {
  const handlers: SessionHandlers = {
    open(session) {
      if (typeof session.state === 'string') presence.enter(session, room, session.state)
    },
    message(session, data) {
      if (data === 'leave') presence.leave(session, room)
      else {
        session.state = String(data)
        presence.enter(session, room, String(data))
      }
    },
    close: (session, { cause }) => presence.closed(session, cause),
  }
  const node = await startTestNode(gateway, handlers, { id })
  const presence = createPresence(node)
  onTestFinished(() => presence.stop())
  return node
}

function member(gateway: TestGateway) {
  const client = connect(gateway.wsUrl)
  onTestFinished(() => client.close())
  const changes: string[] = []
  const names = () => [...presence.members.values()].map(String).toSorted().join()
  const presence = new Presence(client, room, { changed: () => changes.push(names()) })
  onTestFinished(() => presence.close())
  return { client, names, changes }
}

test('members see each other come, change, move with their node, and go', async () => {
  const gateway = await startTestGateway({ rebalance: { enabled: false } })
  const first = await startNode(gateway, 'a')
  await startNode(gateway, 'b')
  const [ada, bob, cyd] = [member(gateway), member(gateway), member(gateway)]
  await ada.client.send('Ada')
  await bob.client.send('Bob')
  await cyd.client.send('Cyd')
  for (const { names } of [ada, bob, cyd]) await expect.poll(names).toBe('Ada,Bob,Cyd')

  await bob.client.send('Robert')
  for (const { names } of [ada, bob, cyd]) await expect.poll(names).toBe('Ada,Cyd,Robert')

  // Sessions that move are never seen to go.
  for (const { changes } of [ada, bob, cyd]) changes.length = 0
  await first.drain()
  await cyd.client.send('leave')
  for (const { names } of [ada, bob]) await expect.poll(names).toBe('Ada,Robert')
  expect([...ada.changes, ...bob.changes].every((names) => /Ada.*Robert/.test(names))).toBe(true)

  ada.client.close()
  await expect.poll(bob.names).toBe('Robert')
})

test.each(['', 'null', '{', '{"enter":{}}', '{"here":[{"id":1}]}', '{"here":{}}', '[]', '7'])(
  '%j is no word about presence',
  (data) => {
    expect(parsePresence(data)).toBeNull()
  },
)
