import { expect, onTestFinished, test } from 'vitest'
import { RecordFlag } from '../../src/protocol/link-records.ts'
import { startCluster } from '../support/cluster.ts'
import { LedgerClient } from '../support/ledger-client.ts'
import type { Output } from '../support/ledger-message.ts'
import { createRandom } from '../support/random.ts'
import { output, ScriptedNode } from '../support/scripted-node.ts'

/** A SIGKILL between the outputs of an atomic commit and the commit itself; too short a time to hit it by chance. */
test('a node dies with its outputs sent and their commit not: the client never sees them', async () => {
  await using cluster = await startCluster({ inProcess: true })
  const heard: Output[] = []
  const answered = Promise.withResolvers<void>()
  const a = await ScriptedNode.link(cluster, { id: 'a', script: { message() {} } })
  const client = new LedgerClient('c', cluster.clientUrl, createRandom(1), {
    output(_client, output) {
      heard.push(output)
      if (output.kind === 'echo') answered.resolve()
    },
  })
  onTestFinished(() => client.terminate())
  await client.opened()
  client.send({ pushes: 1 })
  const message = await a.next('message')
  const unfinished = JSON.stringify({ o: 1, n: 1, kind: 'push', node: 'a' })
  a.send(output({ number: message.session, term: message.term }, 1, unfinished, RecordFlag.held))
  await a.settled()
  a.crash()

  await cluster.addNode({ id: 'b', delivery: 'atomic' })
  await answered.promise
  expect(heard.map(({ node, o, redelivered }) => ({ node, o, redelivered }))).toEqual([
    { node: 'b', o: 1, redelivered: true },
    { node: 'b', o: 2, redelivered: true },
  ])
})
