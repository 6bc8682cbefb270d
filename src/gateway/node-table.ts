import { judgeSilence, StallDetector } from '../core/health/heartbeat.ts'
import type { Link } from '../link/link.ts'
import { LinkCloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Limits } from '../protocol/limits.ts'
import type { Hello } from '../protocol/link-records.ts'
import { LinkedNode } from './linked-node.ts'
import type { NodeEntry } from './node-entry.ts'
import type { UpstreamEntry } from './upstream-entry.ts'

export interface NodeTableHandlers {
  suspect(node: NodeEntry): void
  healthy(node: NodeEntry): void
  /** The node is down: its link closed or was silent for too long. */
  down(node: NodeEntry, reason: string): void
}

/** The nodes that are linked to this gateway, those that were until lately, and upstreams. */
export class NodeTable {
  private readonly nodes = new Map<string, NodeEntry>()
  private readonly pools = new Map<string, NodeEntry[]>()
  /** Those that were lost, the first ones first; some have come back since, as another entry. */
  private readonly downNodes: LinkedNode[] = []
  private readonly limits: Readonly<Limits>
  private readonly handlers: NodeTableHandlers
  private readonly stall: StallDetector
  private pingedAt = 0

  constructor(limits: Readonly<Limits>, handlers: NodeTableHandlers) {
    this.limits = limits
    this.handlers = handlers
    this.stall = new StallDetector(this.tickMs, limits.heartbeatMs)
  }

  get tickMs(): number {
    return this.limits.heartbeatMs / 8
  }

  all(): NodeEntry[] {
    return [...this.nodes.values()]
  }

  get(id: string): NodeEntry | undefined {
    return this.nodes.get(id)
  }

  /** Nodes of the pool that are up, in a stable order. */
  inPool(pool: string): readonly NodeEntry[] {
    return this.pools.get(pool) ?? []
  }

  /** Those of them that have a link. */
  linkedIn(pool: string): readonly LinkedNode[] {
    return this.inPool(pool).filter((node) => node instanceof LinkedNode)
  }

  /** All that have a link and are up. */
  linked(): LinkedNode[] {
    return this.poolNames().flatMap((pool) => this.linkedIn(pool))
  }

  poolNames(): string[] {
    return [...this.pools.keys()]
  }

  /** Throws CONFLICT when the id is live from another process. */
  join(hello: Hello, link: Link): LinkedNode {
    const known = this.nodes.get(hello.id)
    if (known !== undefined && !(known instanceof LinkedNode))
      throw new EvenkeelError('CONFLICT', `id ${hello.id} is that of an upstream; give the node another one`)
    if (known !== undefined && known.health !== 'down') {
      if (known.hello.instance !== hello.instance) {
        throw new EvenkeelError(
          'CONFLICT',
          `node id ${hello.id} is live from another process; give each node its own id`,
        )
      }
      known.excused = true
      this.lose(known, 'replaced by a new link of the same process')
    }
    const weight = known !== undefined && known.weight !== known.hello.weight ? known.weight : hello.weight
    if (known !== undefined) known.link.terminate()
    const node = new LinkedNode(hello, link, weight)
    // Only the link is new: the process is as warm as it was.
    if (known?.hello.instance === hello.instance) node.warmSince = known.warmSince
    this.nodes.set(node.id, node)
    this.indexPools()
    return node
  }

  add(upstream: UpstreamEntry): void {
    this.nodes.set(upstream.id, upstream)
    this.indexPools()
  }

  /** The upstream takes sessions again. */
  recover(upstream: UpstreamEntry, state: 'active' | 'draining'): void {
    upstream.health = 'healthy'
    upstream.state = state
    upstream.downAt = null
    this.indexPools()
  }

  /** The node's sessions are to be re-assigned; its entry stays for operators to see. */
  lose(node: NodeEntry, reason: string): void {
    if (node.health === 'down') return
    node.health = 'down'
    node.state = 'down'
    node.downAt = Date.now()
    this.indexPools()
    this.handlers.down(node, reason)
    if (node instanceof LinkedNode) this.keepDown(node)
  }

  /** A program with the token may come under as many names as it likes. */
  private keepDown(node: LinkedNode): void {
    this.downNodes.push(node)
    if (this.downNodes.length > this.limits.downNodes) this.forget(this.downNodes.shift()!)
  }

  remove(node: NodeEntry): void {
    if (this.nodes.get(node.id) === node) this.nodes.delete(node.id)
    this.indexPools()
  }

  /** To be called every `tickMs`: sends heartbeats and judges silence. */
  tick(nowMs: number): void {
    const stalled = this.stall.tick(nowMs)
    const ping = nowMs - this.pingedAt >= this.limits.heartbeatMs
    if (ping) this.pingedAt = nowMs
    for (const node of this.nodes.values()) {
      if (!(node instanceof LinkedNode)) continue
      if (node.health === 'down') {
        this.forgetLater(node)
        continue
      }
      if (stalled) node.link.lastHeardAt = nowMs
      if (ping) node.link.ping()
      node.link.checkCongestion()
      this.judge(node, nowMs)
    }
  }

  private judge(node: LinkedNode, nowMs: number): void {
    const health = judgeSilence(nowMs - node.link.lastHeardAt, this.limits)
    if (health === node.health) return
    if (health === 'down') {
      this.lose(node, `silent for ${this.limits.downMs} ms`)
      return
    }
    node.health = health
    if (health === 'suspect') this.handlers.suspect(node)
    else this.handlers.healthy(node)
  }

  private forgetLater(node: LinkedNode): void {
    if (Date.now() - node.downAt! >= this.limits.downNodeMs) this.forget(node)
  }

  private forget(node: LinkedNode): void {
    node.link.close(LinkCloseCode.declaredDown, 'declared down')
    node.link.terminate()
    this.remove(node)
  }

  private indexPools(): void {
    this.pools.clear()
    for (const node of this.nodes.values()) {
      if (node.health === 'down') continue
      const pool = this.pools.get(node.pool)
      if (pool === undefined) this.pools.set(node.pool, [node])
      else pool.push(node)
    }
  }
}
