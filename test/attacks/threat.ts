import type { Target } from './wire.ts'

/** One line of the threat table in SECURITY.md, and how it is tried. */
export interface Threat {
  readonly name: string
  /** What the gateway is documented to answer. */
  readonly answer: string | RegExp
  /**
   * Attempts a second in the benchmark: at most the 20 new connections that docs/limits.md lets one address make, and less where an
   * attempt is megabytes; more only where many addresses are what is tried.
   */
  readonly perSecond: number
  /** Needs a Redis that the gateway shares. */
  readonly redis?: true
  /** One attempt, over connections of its own. Resolves with what the gateway did. */
  attack(target: Target): Promise<string>
}

export function isAnswer({ answer }: Threat, got: string): boolean {
  return typeof answer === 'string' ? got === answer : answer.test(got)
}
