import { type Canary, canaryLimits, shareNow } from '../core/balance/canary.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { CanaryOrder } from './canary-operator.ts'

const defaults = { watchMs: 600_000, maxErrorRatio: 2, maxTimeRatio: 3, minSessions: 1 }

/** With defaults. Throws BAD_REQUEST naming the field. */
export function checkOrder(order: CanaryOrder): Required<CanaryOrder> {
  const checked = { ...defaults, ...order }
  checkPercent(checked.percent)
  const { watchMs, ratio, minSessions } = canaryLimits
  checkNumber('watchMs', checked.watchMs, watchMs, true)
  checkNumber('maxErrorRatio', checked.maxErrorRatio, ratio, false)
  checkNumber('maxTimeRatio', checked.maxTimeRatio, ratio, false)
  checkNumber('minSessions', checked.minSessions, minSessions, true)
  return checked
}

/** Throws BAD_REQUEST. */
export function checkPercent(percent: number): void {
  checkNumber('percent', percent, canaryLimits.percent, false)
}

function checkNumber(
  name: string,
  value: number,
  { least, most }: { least: number; most: number },
  isWhole: boolean,
): void {
  const fits = value >= least && value <= most && (!isWhole || Number.isSafeInteger(value))
  if (fits) return
  throw new EvenkeelError(
    'BAD_REQUEST',
    `${name} must be a ${isWhole ? 'whole ' : ''}number from ${least} to ${most}`,
  )
}

/** Without the noise of binary fractions. */
export function percentOf(canary: Canary): number {
  const share = canary.state === 'promoted' ? 1 : shareNow(canary)
  return Math.round(share * 100_000) / 1_000
}
