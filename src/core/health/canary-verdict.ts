/** What was seen on one side of a canary since its watch began. */
export interface Seen {
  /** How long sessions were there, all together. */
  readonly sessionMs: number
  /** Sessions that their node closed with an error code, and moves that a node did not answer. */
  readonly failures: number
  /** Messages that were timed from the node's getting them to its commit, and the sum of `log1p` of the ms that they took. */
  readonly timed: number
  readonly timedLog: number
}

export interface VerdictRules {
  readonly watchMs: number
  /** The version may fail so much more often per session and time than the rest of the pool. */
  readonly maxErrorRatio: number
  /** Its messages may take so much longer. */
  readonly maxTimeRatio: number
  /** Sessions that it must have had on average over `watchMs` to pass. */
  readonly minSessions: number
}

export type Verdict =
  | { readonly kind: 'fail'; readonly reason: string }
  | { readonly kind: 'pass'; readonly reason: string }
  | { readonly kind: 'wait'; readonly reason: string }

export const nothingSeen: Seen = { sessionMs: 0, failures: 0, timed: 0, timedLog: 0 }

/** Fewer failures say nothing. */
const failuresLeast = 3
/** A canary fails when its failures would be at least this unlikely with a ratio that is allowed. It is looked at many times. */
const chance = 0.001
/** Fewer timed messages say nothing of how long they take. */
const timedLeast = 50
/** Beneath this many ms more, twice as long is still short. */
const slackMs = 2

export function judge(
  canary: Seen,
  others: Seen,
  elapsedMs: number,
  { watchMs, maxErrorRatio, maxTimeRatio, minSessions }: VerdictRules,
): Verdict {
  if (failsTooOften(canary, others, maxErrorRatio)) {
    return {
      kind: 'fail',
      reason: `${canary.failures} failures in ${hours(canary)} session hours, ${others.failures} in ${hours(others)} elsewhere`,
    }
  }
  const [own, baseline] = [typicalMs(canary), typicalMs(others)]
  if (own !== null && baseline !== null && own > baseline * maxTimeRatio + slackMs) {
    return {
      kind: 'fail',
      reason: `messages take ${own.toFixed(1)} ms, ${baseline.toFixed(1)} ms elsewhere`,
    }
  }
  if (elapsedMs < watchMs) return { kind: 'wait', reason: 'the watch is not over' }
  if (canary.sessionMs < minSessions * watchMs) return { kind: 'wait', reason: 'too few sessions so far' }
  return {
    kind: 'pass',
    reason: `${canary.failures} failures in ${hours(canary)} session hours, ${others.failures} in ${hours(others)} elsewhere`,
  }
}

/**
 * Given all failures of both sides, those of the canary are drawn binomially by the time of its sessions. An exact test needs no baseline
 * without noise: with half of the pool on each side it asks for more evidence than with a hundredth.
 */
function failsTooOften(canary: Seen, others: Seen, ratio: number): boolean {
  if (canary.failures < failuresLeast || canary.sessionMs <= 0) return false
  const weighted = canary.sessionMs * ratio
  const part = weighted / (weighted + others.sessionMs)
  const all = canary.failures + others.failures
  return canary.failures > all * part && atLeast(canary.failures, all, part) < chance
}

/** The probability of `count` or more of `all`, each with probability `part`. */
export function atLeast(count: number, all: number, part: number): number {
  if (count <= 0) return 1
  if (part <= 0) return 0
  if (part >= 1) return 1
  let log = 0
  for (let i = 1; i <= count; i++) log += Math.log((all - count + i) / i)
  log += count * Math.log(part) + (all - count) * Math.log1p(-part)
  let term = Math.exp(log)
  let sum = 0
  for (let k = count; k <= all; k++) {
    sum += term
    term *= ((all - k) / (k + 1)) * (part / (1 - part))
    // From the expected number on terms only shrink.
    if (term < sum * 1e-12 && k > all * part) break
  }
  return Math.min(1, sum)
}

/** The geometric mean: a stall of the machine or code that is cold makes a few messages slow, a slow version most of them. */
export function typicalMs({ timed, timedLog }: Seen): number | null {
  return timed < timedLeast ? null : Math.expm1(timedLog / timed)
}

function hours({ sessionMs }: Seen): string {
  return (sessionMs / 3_600_000).toFixed(2)
}

/** Codes with which a session's end is a failure, whoever is to blame: the rest of the pool shows how often clients are. */
export function isFailureCode(code: number): boolean {
  return code >= 1002 && code <= 1014 && code !== 1005 && code !== 1006
}
