import { expect, test } from 'vitest'
import { RecordFlag } from '../../src/protocol/link-records.ts'
import { startLinkedNode } from '../support/faulty-node.ts'
import { startTestGateway } from '../support/in-process.ts'
import { encodeRecord, u32s } from '../support/link-wire.ts'
import { Migrations } from '../support/migrations.ts'
import { NumberedClient } from '../support/numbered-client.ts'
import { output, ScriptedNode } from '../support/scripted-node.ts'

/** A session at a scripted node that has been sent a fourth message and answers only when it is told to. */
async function setStage() {
  const gateway = await startTestGateway({ rebalance: { enabled: false } })
  const node = await ScriptedNode.link(gateway, { id: 'a' })
  const client = await NumberedClient.connect(gateway.wsUrl)
  client.send(3)
  await client.answers()
  await startLinkedNode(gateway, 'b')
  node.script = { message() {} }
  client.send()
  await node.next('message', ({ body }) => body.readUInt32LE(0) === 4)
  const session = [...node.sessions.values()][0]!
  const commit = encodeRecord('commit', {
    session: session.number,
    term: session.term,
    flags: RecordFlag.state,
    body: u32s([4], '{"count":4}'),
  })
  /** The gateway has noticed, too. */
  const crash = async () => {
    node.crash()
    await expect.poll(() => gateway.operator.sessions().sessions[0]?.node).toBe('b')
  }
  const hold = () =>
    node.send(
      output(session, 4, 'first', RecordFlag.held),
      output(session, 5, 'second', RecordFlag.held),
      output(session, 6, 'at once'),
    )
  return { gateway, node, client, session, commit, hold, crash }
}

test('HELD outputs wait for the COMMIT and come with it, in order', async () => {
  const { node, client, commit, hold } = await setStage()
  hold()
  await client.until(() => client.others.length > 0, 'the output that is not held')
  await node.settled()
  expect(client.others).toEqual(['at once'])
  node.send(commit)
  await client.until(() => client.others.length === 3, 'the held outputs')
  expect(client.others).toEqual(['at once', 'first', 'second'])
})

test('a node that dies before the COMMIT leaves no trace of what was HELD', async () => {
  const { node, client, hold, crash } = await setStage()
  hold()
  await node.settled()
  await crash()
  client.send(2)
  await client.answers()
  expect(client.others).toEqual(['at once'])
  expect(client.verify({ repeats: false }).map(({ n, node }) => `${n} ${node}`)).toEqual(['4 b'])
})

test('a node that dies after the COMMIT: its outputs and its state stand, and nothing is given again', async () => {
  const { gateway, node, client, commit, hold, crash } = await setStage()
  hold()
  node.send(commit)
  await node.settled()
  await crash()
  client.send()
  await client.until(() => client.replies.at(-1)?.n === 5, 'the answer of b')
  expect(client.replies.at(-1)).toMatchObject({ node: 'b', count: 5, redelivered: false })
  expect(client.others).toEqual(['at once', 'first', 'second'])
  expect(gateway.operator.counters.messagesRedelivered).toBe(0)
})

test('with FIN but without their COMMIT they are dropped, and the message goes on', async () => {
  const { gateway, node, client, hold } = await setStage()
  hold()
  const { id } = gateway.operator.sessions().sessions[0]!
  expect((await new Migrations(gateway).start(id, 'b')).outcome).toBe('moved')
  await client.answers()
  expect(client.replies.at(-1)).toMatchObject({ n: 4, count: 4, node: 'b' })
  expect(client.others).toEqual(['at once'])
  await node.next('release')
})

test('CLOSE delivers what is HELD before it', async () => {
  const { node, client, session, hold } = await setStage()
  hold()
  const { number, term } = session
  node.send(encodeRecord('close', { session: number, term, body: Buffer.from([0xa1, 0x0f]) }))
  await expect.poll(() => client.closeCode).toBe(4001)
  expect(client.others).toEqual(['at once', 'first', 'second'])
})
