/** A binary heap whose items may change their place: the first one is known at any time, the rest is sorted no more than it has to be. */
export class Heap<T> {
  private readonly before: (one: T, other: T) => boolean
  private readonly items: T[] = []
  private readonly places = new Map<T, number>()

  constructor(before: (one: T, other: T) => boolean) {
    this.before = before
  }

  get first(): T | undefined {
    return this.items[0]
  }

  /** Adds the item, or finds its new place. */
  set(item: T): void {
    const at = this.places.get(item)
    if (at === undefined) {
      this.items.push(item)
      this.rise(item, this.items.length - 1)
    } else if (at > 0 && this.before(item, this.items[(at - 1) >> 1]!)) this.rise(item, at)
    else this.sink(item, at)
  }

  delete(item: T): void {
    const at = this.places.get(item)
    if (at === undefined) return
    this.places.delete(item)
    const last = this.items.pop()!
    if (last === item) return
    this.items[at] = last
    this.places.set(last, at)
    this.set(last)
  }

  private rise(item: T, from: number): void {
    let at = from
    while (at > 0) {
      const parent = this.items[(at - 1) >> 1]!
      if (!this.before(item, parent)) break
      this.put(parent, at)
      at = (at - 1) >> 1
    }
    this.put(item, at)
  }

  private sink(item: T, from: number): void {
    const { items } = this
    let at = from
    for (;;) {
      let child = 2 * at + 1
      if (child >= items.length) break
      if (child + 1 < items.length && this.before(items[child + 1]!, items[child]!)) child++
      if (!this.before(items[child]!, item)) break
      this.put(items[child]!, at)
      at = child
    }
    this.put(item, at)
  }

  private put(item: T, at: number): void {
    this.items[at] = item
    this.places.set(item, at)
  }
}
