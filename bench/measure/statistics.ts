export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/**
 * The median of the ratios of each repeat, not the ratio of medians: what ran side by side shares the
 * machine's mood of that moment.
 */
export function medianRatio(values: readonly number[], references: readonly number[]): number {
  const pairs = Math.min(values.length, references.length)
  return median(Array.from({ length: pairs }, (_, i) => values[i]! / references[i]!))
}
