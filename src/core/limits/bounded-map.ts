/** What is known of many keys, of which strangers choose some: at most so many, those that were asked for last. */
export class BoundedMap<K, V> {
  private readonly entries = new Map<K, V>()
  private readonly most: number
  private readonly make: (key: K) => V
  private readonly forgotten: (key: K) => void

  constructor(most: number, make: (key: K) => V, forgotten: (key: K) => void = () => {}) {
    this.most = most
    this.make = make
    this.forgotten = forgotten
  }

  get size(): number {
    return this.entries.size
  }

  get(key: K): V {
    let value = this.entries.get(key)
    if (value === undefined) value = this.make(key)
    else this.entries.delete(key)
    this.entries.set(key, value)
    if (this.entries.size > this.most) {
      const oldest = this.entries.keys().next().value as K
      this.entries.delete(oldest)
      this.forgotten(oldest)
    }
    return value
  }
}
