export interface LatencySummary {
  count: number
  p50: number
  p90: number
  p99: number
  max: number
}

const subBits = 6
const subBuckets = 1 << subBits

/** Log-linear: 64 buckets per power of two, so a percentile is off by less than 1.6 % at any scale. */
export class Histogram {
  #counts = new Uint32Array((32 - subBits + 1) * subBuckets)
  #count = 0
  #max = 0

  add(value: number): void {
    const v = value < 0 ? 0 : value | 0
    this.#count++
    if (v > this.#max) this.#max = v
    const index = bucketOf(v)
    this.#counts[index] = this.#counts[index]! + 1
  }

  reset(): void {
    this.#counts.fill(0)
    this.#count = 0
    this.#max = 0
  }

  quantile(q: number): number {
    const wanted = Math.max(1, Math.ceil(q * this.#count))
    let seen = 0
    for (let i = 0; i < this.#counts.length; i++) {
      seen += this.#counts[i]!
      if (seen >= wanted) return Math.min(middleOf(i), this.#max)
    }
    return this.#max
  }

  summary(): LatencySummary {
    return {
      count: this.#count,
      p50: this.quantile(0.5),
      p90: this.quantile(0.9),
      p99: this.quantile(0.99),
      max: this.#max,
    }
  }
}

function bucketOf(value: number): number {
  if (value < subBuckets) return value
  const shift = 31 - Math.clz32(value) - subBits
  return ((shift + 1) << subBits) + ((value >>> shift) & (subBuckets - 1))
}

function middleOf(index: number): number {
  if (index < subBuckets) return index
  const shift = (index >>> subBits) - 1
  const base = (index & (subBuckets - 1)) | subBuckets
  return base * 2 ** shift + 2 ** shift / 2
}
