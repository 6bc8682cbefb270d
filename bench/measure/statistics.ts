export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/**
 * True when the side of `bound` on which the median lies is not the work of chance: a sign test says so with an error of at most 5 %.
 * Seven values settle it only when all of them lie on one side.
 */
export function isSettled(values: readonly number[], bound: number): boolean {
  const above = values.filter((value) => value > bound).length
  const fewer = Math.min(above, values.length - above)
  let ways = 1
  let tail = 0
  for (let i = 0; i <= fewer; i++) {
    tail += ways
    ways = (ways * (values.length - i)) / (i + 1)
  }
  return (2 * tail) / 2 ** values.length <= 0.05
}

/**
 * The median of the ratios of each repeat, not the ratio of medians: what ran side by side shares the
 * machine's mood of that moment.
 */
export function medianRatio(values: readonly number[], references: readonly number[]): number {
  const pairs = Math.min(values.length, references.length)
  return median(Array.from({ length: pairs }, (_, i) => values[i]! / references[i]!))
}
