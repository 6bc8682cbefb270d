import type { Producer } from '../core/run/dispatch.ts'
import type { RunOffer } from '../protocol/link-records.ts'
import type { LinkedNode } from './linked-node.ts'
import type { OwnedRun } from './owned-run.ts'

/** One node as a maker of runs of one name. */
export class RunProducer implements Producer {
  readonly node: LinkedNode
  readonly offer: RunOffer
  /** Runs that this gateway has given to it. */
  readonly runs = new Set<OwnedRun>()
  /** It said no; it gets nothing until it reports again. */
  refusing = false

  constructor(node: LinkedNode, offer: RunOffer) {
    this.node = node
    this.offer = offer
  }

  get id(): string {
    return this.node.id
  }

  get outstanding(): number {
    return this.runs.size + this.node.runsElsewhere(this.offer.name)
  }

  get concurrency(): number {
    return this.offer.concurrency
  }

  get weight(): number {
    return this.node.weight
  }

  get available(): boolean {
    const { node } = this
    return !this.refusing && node.state === 'active' && node.health === 'healthy' && !node.link.congested
  }
}
