/** The pauses of the last migrations. */
export class Pauses {
  private readonly ring: Float64Array
  private total = 0

  constructor(kept = 5_000) {
    this.ring = new Float64Array(kept)
  }

  add(ms: number): void {
    this.ring[this.total++ % this.ring.length] = ms
  }

  /** By nearest rank; null before the first one. */
  quantiles(): { p50: number; p99: number } | null {
    const sorted = this.ring.slice(0, this.total).sort()
    if (sorted.length === 0) return null
    const at = (q: number) => Math.round(sorted[Math.ceil(q * sorted.length) - 1]! * 1000) / 1000
    return { p50: at(0.5), p99: at(0.99) }
  }
}
