import { expect, onTestFinished, test } from 'vitest'
import { startCluster } from '../support/cluster.ts'
import { noFaults } from '../support/ledger.ts'
import { LedgerClient } from '../support/ledger-client.ts'
import { encodeRecord, json } from '../support/link-wire.ts'
import { createRandom } from '../support/random.ts'
import { ScriptedNode } from '../support/scripted-node.ts'

test('a node refuses a session that is being moved off it already', async () => {
  await using cluster = await startCluster({ inProcess: true })
  const { admin, events } = cluster
  const a = await ScriptedNode.link(cluster, { id: 'a', script: { open() {} } })
  const answered = Promise.withResolvers<void>()
  const client = new LedgerClient('c', cluster.clientUrl, createRandom(1), {
    output: () => answered.resolve(),
  })
  onTestFinished(() => client.terminate())
  await client.opened()
  const { session: number, term } = await a.next('open')
  const b = await cluster.addNode({ id: 'b' })

  // The target must not be ready before the refusal arrives, as when a node drains while it is given a session.
  b.signal('SIGSTOP')
  const [session] = await admin.sessions()
  await admin.migrate(session!.id, 'b')
  const body = json({ code: 'DRAINING', message: 'node a is draining' })
  a.send(encodeRecord('refused', { session: number, term, body }))
  while ((await admin.session(session!.id)).term === term);
  b.signal('SIGCONT')
  await events.find('migration', ({ to }) => to === 'b')

  client.send()
  await answered.promise
  expect(client.ledger.verdict()).toMatchObject({ ...noFaults, answered: 1 })
  expect((await admin.session(session!.id)).term).toBeGreaterThan(term)
})
