import { figure } from './table.ts'

export interface Goal {
  text: string
  measured: number
  comparison: 'at most' | 'at least'
  limit: number
  unit: string
  /** null when it could not be measured. */
  met: boolean | null
}

export function atMost(text: string, measured: number, limit: number, unit: string): Goal {
  return goal(text, measured, 'at most', limit, unit, measured <= limit)
}

export function atLeast(text: string, measured: number, limit: number, unit: string): Goal {
  return goal(text, measured, 'at least', limit, unit, measured >= limit)
}

function goal(
  text: string,
  measured: number,
  comparison: Goal['comparison'],
  limit: number,
  unit: string,
  met: boolean,
): Goal {
  return { text, measured, comparison, limit, unit, met: Number.isFinite(measured) ? met : null }
}

export function renderGoal({ text, measured, comparison, limit, unit, met }: Goal): string {
  const verdict = met === null ? 'no figure' : met ? 'met' : 'MISSED'
  const space = unit === '' ? '' : ' '
  return `  ${verdict.padEnd(9)} ${text}: ${figure(measured)}${space}${unit} (goal: ${comparison} ${figure(limit)}${space}${unit})`
}
