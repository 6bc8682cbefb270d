/** How many there are of each key; keys of which there is none take no room. */
export class Counts<K> {
  private readonly counts = new Map<K, number>()

  of(key: K): number {
    return this.counts.get(key) ?? 0
  }

  add(key: K): number {
    const count = this.of(key) + 1
    this.counts.set(key, count)
    return count
  }

  remove(key: K): void {
    const count = this.of(key) - 1
    if (count > 0) this.counts.set(key, count)
    else this.counts.delete(key)
  }

  get size(): number {
    return this.counts.size
  }
}
