export interface SearchAnswer {
  /** 0: not there. */
  readonly term: number
  /** False: only prepared there. */
  readonly live: boolean
  readonly reason: 'unknown' | 'token' | 'user' | null
}

export interface SearchWaits {
  /** For nodes that were asked. */
  readonly answersMs: number
  /** For nodes that are known of and cannot be asked yet. */
  readonly unlinkedMs: number
}

export type SearchResult<Node> =
  /** `drop`: nodes that have the session too, with a lower term. */
  | { readonly found: Node; readonly term: number; readonly drop: readonly Node[] }
  | { readonly found: null; readonly reason: 'unknown' | 'token' | 'user' }

/**
 * Who has a session: all nodes are asked, the highest live term wins (PROTOCOL.md §1.10). Times are monotonic milliseconds.
 */
export class Search<Node> {
  private readonly startedAt: number
  private readonly waits: SearchWaits
  private readonly asked = new Map<Node, SearchAnswer | null>()

  constructor(startedAt: number, waits: SearchWaits) {
    this.startedAt = startedAt
    this.waits = waits
  }

  ask(node: Node): void {
    this.asked.set(node, null)
  }

  answer(node: Node, answer: SearchAnswer): void {
    if (this.asked.has(node)) this.asked.set(node, answer)
  }

  /** Nothing can be had of the node any more. */
  lost(node: Node): void {
    this.asked.delete(node)
  }

  /** Null while it is worth waiting. `unlinked`: there are nodes that could not be asked yet. */
  result(now: number, unlinked: boolean): SearchResult<Node> | null {
    const waited = now - this.startedAt
    const answers = [...this.asked]
    if (answers.some(([, answer]) => answer === null) && waited < this.waits.answersMs) return null
    const holders = answers.flatMap(([node, answer]) => (answer?.term ? [{ node, ...answer }] : []))
    const best = holders
      .filter(({ live }) => live)
      .reduce<(typeof holders)[number] | null>((a, b) => (a === null || b.term > a.term ? b : a), null)
    if (best !== null) {
      const term = 1 + Math.max(...holders.map((holder) => holder.term))
      return {
        found: best.node,
        term,
        drop: holders.flatMap(({ node }) => (node === best.node ? [] : [node])),
      }
    }
    if (unlinked && waited < this.waits.unlinkedMs) return null
    const saying = (why: SearchAnswer['reason']) => answers.some(([, answer]) => answer?.reason === why)
    return { found: null, reason: saying('user') ? 'user' : saying('token') ? 'token' : 'unknown' }
  }
}
