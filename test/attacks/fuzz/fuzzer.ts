import type { Random } from '../../support/random.ts'
import type { Target } from '../wire.ts'

export interface Fuzzer {
  readonly name: string
  /** Gives the gateway so many inputs, or a few more. Resolves with how many it has certainly looked at. */
  run(target: Target, random: Random, count: number): Promise<number>
}
