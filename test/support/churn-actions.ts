import { setTimeout as pause } from 'node:timers/promises'
import { AdminError } from './admin-client.ts'
import type { Cluster, ClusterNode } from './cluster.ts'
import type { Random } from './random.ts'
import type { RemoteCrowd } from './remote-crowd.ts'

export interface ChurnSize {
  nodesLeast: number
  nodesMost: number
  migrationsPerSecond: number
}

/** How much each action is wanted, relative to the others. */
const wishes = { add: 3, drain: 2, terminate: 2, weigh: 3, rebalance: 2, overfill: 1, leave: 2 }
type Action = keyof typeof wishes

const migrateEveryMs = 50
const smallNode = { id: 'small', maxSessions: 2, chatty: true }
const overfilling = 6
const leaving = 5

/** What operators and deploys do to a cluster. */
export class ChurnActions {
  readonly done: Record<string, number> = {}
  private readonly cluster: Cluster
  private readonly crowd: RemoteCrowd
  private readonly random: Random
  private readonly size: ChurnSize
  /** Nodes that nobody is taking away. */
  private readonly free = new Set<ClusterNode>()
  /** Drains, exits and migrations that go on beside the other actions. */
  private readonly begun: Promise<void>[] = []
  private sessions: string[] = []
  private stopped = false

  constructor(cluster: Cluster, crowd: RemoteCrowd, random: Random, size: ChurnSize) {
    this.cluster = cluster
    this.crowd = crowd
    this.random = random
    this.size = size
    for (const node of cluster.nodes) this.free.add(node)
  }

  async start(): Promise<void> {
    while (this.free.size < this.size.nodesLeast) await this.add()
    await this.cluster.addNode(smallNode)
    await this.listSessions()
    this.beside(() => this.keepMigrating())
  }

  /** One action at random. A drain or an exit is only begun: others follow while it goes on. */
  async one(): Promise<void> {
    const urn = (Object.keys(wishes) as Action[]).flatMap((action) =>
      Array<Action>(wishes[action]).fill(action),
    )
    const action = this.random.pick(urn)
    if (action === 'add' ? this.free.size >= this.size.nodesMost : this.takesAway(action)) return
    await this[action]()
    await this.listSessions()
    this.done[action] = (this.done[action] ?? 0) + 1
    await pause(this.random.int(20, 200))
  }

  /** Waits for what was begun; then no node is small, and none is on its way out. */
  async stop(): Promise<void> {
    this.stopped = true
    await Promise.all(this.begun)
    const small = this.cluster.nodes.find(({ id }) => id === smallNode.id)!
    await this.exit(small)
  }

  private takesAway(action: Action): boolean {
    return (action === 'drain' || action === 'terminate') && this.free.size <= this.size.nodesLeast
  }

  private async add(): Promise<void> {
    const { random } = this
    const node = await this.cluster.addNode({
      weight: random.int(1, 4),
      delivery: random.pick(['stream', 'atomic'] as const),
      chatty: true,
    })
    this.free.add(node)
  }

  private async drain(): Promise<void> {
    const node = this.take()
    const operation = await this.cluster.admin.drain(node.id)
    this.beside(async () => {
      const isOver = (event: { operation: { id: string; state: string } }) =>
        event.operation.id === operation.id && event.operation.state !== 'running'
      await this.cluster.events.find('operation', isOver, { what: `drain of ${node.id}`, timeoutMs: 30_000 })
      if (this.random.chance(0.5)) return this.exit(node)
      await this.cluster.admin.activate(node.id)
      this.free.add(node)
    })
  }

  private async terminate(): Promise<void> {
    const node = this.take()
    this.beside(() => this.exit(node))
  }

  private async weigh(): Promise<void> {
    await this.cluster.admin.setWeight(this.pickNode().id, this.random.int(1, 4))
  }

  private async rebalance(): Promise<void> {
    await this.cluster.admin.rebalance()
  }

  /** More sessions for a node than it takes. */
  private async overfill(): Promise<void> {
    for (const session of this.random.sample(this.sessions, overfilling))
      await this.migrate(session, smallNode.id)
  }

  /** Clients go away while they are being moved. */
  private async leave(): Promise<void> {
    const sessions = this.random.sample(this.sessions, leaving)
    const moves = sessions.map((session) => this.migrate(session, this.pickNode().id))
    await this.crowd.replace(sessions)
    await Promise.all(moves)
  }

  private async keepMigrating(): Promise<void> {
    const perRound = (this.size.migrationsPerSecond * migrateEveryMs) / 1000
    let due = 0
    while (!this.stopped) {
      for (due += perRound; due >= 1; due--)
        await this.migrate(this.random.pick(this.sessions), this.pickNode().id)
      await pause(migrateEveryMs)
    }
  }

  private async migrate(session: string, to: string): Promise<void> {
    try {
      await this.cluster.admin.migrate(session, to)
    } catch (error) {
      // It is there already, or moving, or its client has left, or the node is draining by now.
      if (!(error instanceof AdminError) || (error.status !== 409 && error.status !== 404)) throw error
    }
  }

  private async exit(node: ClusterNode): Promise<void> {
    const exit = await node.kill('SIGTERM')
    if (exit.code !== 0) throw new Error(`${node.id} ended with ${JSON.stringify(exit)}:\n${node.log()}`)
  }

  private async listSessions(): Promise<void> {
    this.sessions = (await this.cluster.admin.sessions()).map(({ id }) => id)
  }

  private pickNode(): ClusterNode {
    return this.random.pick([...this.free])
  }

  private take(): ClusterNode {
    const node = this.pickNode()
    this.free.delete(node)
    return node
  }

  private beside(act: () => Promise<void>): void {
    const going = act()
    // It is looked at in `stop`; until then a failure must not end the process.
    going.catch(() => {})
    this.begun.push(going)
  }
}
