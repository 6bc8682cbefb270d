import type { DrainOrder, Report } from '../protocol/link-records.ts'
import { Drain, type DrainContext } from './drainer.ts'
import type { Gateway } from './gateway.ts'
import type { LinkedNode } from './linked-node.ts'
import type { NodeEntry } from './node-entry.ts'
import type { OperationRecord } from './operations.ts'
import type { Session } from './session.ts'
import type { UpstreamEntry } from './upstream-entry.ts'

const usual: DrainOrder = { deadlineMs: null, ratePerSecond: null }

/** What nodes are set to, weight and drain: by operators, by other gateways through what a node reports, by the directory of upstreams. */
export class Steering {
  private readonly gateway: Gateway
  private readonly drains = new Map<NodeEntry, Drain>()
  private readonly context: DrainContext

  constructor(gateway: Gateway) {
    this.gateway = gateway
    this.context = {
      start: (source) => gateway.migrator.add(source),
      stop: (source) => gateway.migrator.remove(source),
      now: () => gateway.now(),
      pick: (session) => gateway.placement.place(session),
      force: (session) => this.force(session),
      ended: (drain) => this.ended(drain),
    }
  }

  /** Drains the node at all its gateways. */
  drain(node: NodeEntry, order = usual): OperationRecord {
    node.steer({ drain: order })
    return this.ordered(node, order)
  }

  activate(node: NodeEntry): void {
    node.steer({ drain: null })
    this.activated(node)
  }

  setWeight(node: NodeEntry, weight: number): void {
    node.steer({ weight })
    this.weighs(node, weight)
  }

  /** What a node is set to is kept at the node, so that all its gateways agree. */
  reported(node: LinkedNode, { weight, drain }: Pick<Report, 'weight' | 'drain'>): void {
    if (weight !== node.weight) this.weighs(node, weight)
    if (drain === null) this.activated(node)
    else if (node.state === 'active') this.ordered(node, drain)
  }

  /** Weight and drain are as the directory says. */
  upstreamSet(entry: UpstreamEntry): void {
    const { weight, drain } = entry.upstream
    if (weight !== entry.weight) this.weighs(entry, weight)
    if (drain !== null) {
      if (entry.state === 'active' || entry.state === 'down') this.ordered(entry, drain)
    } else if (!entry.leaving && entry.state !== 'down') {
      this.activated(entry)
      if (entry.health === 'down') entry.state = 'down'
    }
  }

  /** It is on no list any more: as if an operator had ordered its drain. */
  upstreamLeaves(entry: UpstreamEntry): void {
    this.ordered(entry)
    this.drains.get(entry)?.check()
  }

  isDraining(node: NodeEntry): boolean {
    return this.drains.has(node)
  }

  /** The node has got a session by way of its client, and may be one that is to be empty. */
  sessionTakenOver(node: NodeEntry): void {
    this.gateway.rebalancer.soon()
    if (node.state === 'draining' || node.state === 'drained') this.ordered(node)
  }

  /** Its link is lost. */
  nodeLost(node: NodeEntry): void {
    this.drains.get(node)?.finish(node.assigned.size === 0 ? 'done' : 'failed')
  }

  /** Opens what is at the node elsewhere, without asking it. */
  takeAway(node: NodeEntry): void {
    for (const session of [...node.assigned]) this.force(session)
  }

  /** Once a second. */
  check(): void {
    for (const drain of this.drains.values()) drain.check()
  }

  private ordered(node: NodeEntry, { deadlineMs, ratePerSecond } = usual): OperationRecord {
    const known = this.drains.get(node)
    if (known !== undefined) return known.operation
    const { gateway } = this
    const operation = gateway.operations.start('drain', node.id, node.total)
    const deadline = deadlineMs ?? gateway.limits.drainDeadlineMs
    const drain = new Drain(node, operation, this.context, deadline, ratePerSecond)
    this.drains.set(node, drain)
    gateway.publish({ type: 'node-state', node: node.id, state: 'draining' })
    for (const move of [...node.incoming]) move.step('cancelled')
    drain.start()
    for (const session of [...node.assigned]) session.nodeDrains()
    return operation
  }

  private activated(node: NodeEntry): void {
    if (node.state === 'active') return
    this.drains.get(node)?.finish('cancelled')
    node.state = 'active'
    this.gateway.publish({ type: 'node-state', node: node.id, state: 'active' })
    this.gateway.nodesChanged()
  }

  private weighs(node: NodeEntry, weight: number): void {
    node.weight = weight
    this.gateway.publish({ type: 'node-weight', node: node.id, weight })
    this.gateway.nodesChanged()
  }

  private force(session: Session): void {
    if (!session.movable) {
      session.closeAtDeadline()
      return
    }
    session.withdraw()
    this.gateway.assign(session)
  }

  private ended({ node }: Drain): void {
    const { gateway } = this
    this.drains.delete(node)
    if (node.state === 'drained') gateway.publish({ type: 'node-state', node: node.id, state: 'drained' })
    gateway.upstreamDrained(node)
    gateway.rebalancer.soon()
  }
}
