/** Casts that are remembered for each pool: some seconds of many. */
const remembered = 8_192

/** What several nodes of a pool may cast, and is meant once. */
export class OnceCasts {
  private readonly seen = new Map<string, Set<string>>()

  /** Returns false when it has come already. */
  isFirst(pool: string, name: string): boolean {
    let names = this.seen.get(pool)
    if (names === undefined) {
      names = new Set()
      this.seen.set(pool, names)
    }
    if (names.has(name)) return false
    names.add(name)
    if (names.size > remembered) names.delete(names.values().next().value!)
    return true
  }
}
