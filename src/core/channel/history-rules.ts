/** How much of a channel is kept. */
export interface HistoryBounds {
  /** Messages; 1 to 10,000. */
  readonly size: number
  /** The history is forgotten this long after its last message; 1 to 2,147,483,647 ms. */
  readonly ttlMs: number
}

/** Which channels have a history. */
export interface HistoryRule extends HistoryBounds {
  /** A channel's name; `*` stands for any text, also for none. */
  readonly match: string
}

export const historySizeMax = 10_000

/** The first rule that matches the channel; null: it has no history. */
export function historyRuleFor(rules: readonly HistoryRule[], channel: string): HistoryRule | null {
  return rules.find(({ match }) => matchesPattern(match, channel)) ?? null
}

/** In time that is linear in the name for each `*`, whatever the pattern is. */
export function matchesPattern(pattern: string, name: string): boolean {
  const [first = '', ...rest] = pattern.split('*')
  const last = rest.pop()
  if (last === undefined) return name === pattern
  if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last))
    return false
  const end = name.length - last.length
  let at = first.length
  for (const part of rest) {
    const found = name.indexOf(part, at)
    if (found === -1 || found + part.length > end) return false
    at = found + part.length
  }
  return true
}
