import { describe, expect, onTestFinished, test } from 'vitest'
import { type Cluster, startCluster } from '../support/cluster.ts'
import { noFaults } from '../support/ledger.ts'
import { LedgerClient } from '../support/ledger-client.ts'
import { createRandom } from '../support/random.ts'
import { until } from '../support/until.ts'

const KiB = 1024
const clientBufferBytes = 512 * KiB
const padBytes = 64 * KiB
/** More than the credit that can be left, less than that and what a node queues beyond it. */
const beyondCredit = 10

/** A client that does not read, at a node that has made more outputs for it than it may send. */
async function stuckClient(cluster: Cluster): Promise<{ client: LedgerClient; answered(): Promise<void> }> {
  const looks = new Set<() => void>()
  const client = new LedgerClient('c', cluster.clientUrl, createRandom(1), {
    output: () => {
      for (const look of [...looks]) look()
    },
  })
  onTestFinished(() => client.terminate())
  await client.opened()
  client.send()
  const answered = () => until(() => client.ledger.outstanding === 0, looks, { what: 'all answers' })
  await answered()

  client.stopReading()
  let sent = 1
  const send = () => {
    sent++
    client.send({ hasty: true }, padBytes)
  }
  const handled = () => cluster.handlings().filter(({ event }) => event === 'done').length
  while ((await cluster.admin.metric('evenkeel_backpressure_pauses_total')) === 0) {
    send()
    while (handled() < sent) await cluster.admin.session(client.session)
  }
  for (let i = 0; i < beyondCredit; i++) send()
  while (handled() < sent) await cluster.admin.session(client.session)
  // The commits stand in line behind the outputs.
  expect((await cluster.admin.session(client.session)).uncommitted).toBeGreaterThan(0)
  return { client, answered }
}

describe.each(['stream', 'atomic'] as const)('a client that does not read, delivery %s', (delivery) => {
  test('is moved with all that waits for it', async () => {
    await using cluster = await startCluster({ config: { limits: { clientBufferBytes } } })
    await cluster.addNode({ id: 'a', delivery })
    const { client, answered } = await stuckClient(cluster)
    await cluster.addNode({ id: 'b', delivery })
    await cluster.admin.migrate(client.session, 'b')
    const { outcome } = await cluster.events.find('migration', ({ to }) => to === 'b')
    expect(outcome).toBe('moved')
    expect((await cluster.admin.session(client.session)).uncommitted).toBe(0)
    client.send({ pushes: 2 }, padBytes)
    client.goOnReading()
    await answered()
    expect(client.ledger.verdict()).toMatchObject({ ...noFaults, repeated: 0, notes: [] })
  })

  test('loses nothing when its node is killed', async () => {
    await using cluster = await startCluster({ config: { limits: { clientBufferBytes } } })
    const a = await cluster.addNode({ id: 'a', delivery })
    const { client, answered } = await stuckClient(cluster)
    await a.kill()
    await cluster.addNode({ id: 'b', delivery })
    client.send({ pushes: 2 }, padBytes)
    client.goOnReading()
    await answered()
    expect(client.ledger.verdict()).toMatchObject({ ...noFaults, notes: [] })
    if (delivery === 'atomic') expect(client.ledger.verdict().repeated).toBe(0)
  })
})
