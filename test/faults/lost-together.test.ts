import { expect, test } from 'vitest'
import { testSeed } from '../support/random.ts'
import { atomicNodes, books, nothingWrong, startCluster, startCrowd } from '../support/resumable-scene.ts'

const seed = testSeed('lost-together')
// A run that goes wrong is to end with its verdict, not with a time-out.
const timeoutMs = 90_000
/** Far more than the search for a session takes, so that silence is told from patience. */
const silenceMs = 20_000

test(
  'a node and a gateway are killed together: what another place holds goes on, for the rest clients are told',
  async () => {
    const config = { rebalance: { enabled: false }, limits: { resumeSpreadMs: 300 } }
    const cluster = await startCluster({ gateways: 2, nodes: atomicNodes(3), config })
    const crowd = await startCrowd(cluster, { clients: 60, seed })
    const [gateway, other] = cluster.gateways
    const [node] = cluster.nodes
    // Everyone waits for an answer when it happens.
    await crowd.sendAll(500)
    const held = await gateway!.sessions()
    const heldByNobodyElse = held.filter((session) => session.node === node!.id).map(({ id }) => id)
    const atTheNode = (await other!.sessions()).filter((session) => session.node === node!.id)
    expect(heldByNobodyElse.length).toBeGreaterThan(0)
    expect(held.length).toBeGreaterThan(heldByNobodyElse.length)
    expect(atTheNode.length).toBeGreaterThan(0)

    gateway!.signal('SIGKILL')
    node!.signal('SIGKILL')
    // Resolves for a client when it was answered, or has a new session.
    await crowd.fence(silenceMs)
    expect((await crowd.lost()).toSorted()).toEqual(heldByNobodyElse.toSorted())

    const { clients, nodes } = await books(cluster, crowd)
    const { rejected, ...rest } = clients
    const gone = heldByNobodyElse.length
    expect(rest).toMatchObject({
      ...omit(nothingWrong, 'rejected'),
      open: 60,
      notRecovered: { unknown: gone },
    })
    expect(rest.resumes).toBe(held.length - gone)
    // Each message was committed, or its application knows that it may not have been.
    const rejections = Object.values(rejected).reduce((sum, count) => sum + count, 0)
    expect(clients.committed + rejections).toBe(clients.sent)
    expect(rejections).toBeGreaterThanOrEqual(gone)
    expect(Object.keys(rejected).filter((kind) => !kind.startsWith('GONE '))).toEqual([])
    expect(nodes).toMatchObject({ unmarked: 0, disordered: 0, overlapping: 0, notes: [] })
    expect((await other!.sessions()).map(({ id }) => id).toSorted()).toEqual(
      (await crowd.sessions()).toSorted(),
    )
  },
  timeoutMs,
)

function omit<T extends object, Key extends keyof T>(value: T, key: Key): Omit<T, Key> {
  const { [key]: _, ...rest } = value
  return rest
}
