import type { Move as PlannedMove } from '../core/balance/planner.ts'

/** What gateways tell each other of plans. It comes over the bus, where others may write too: whoever reads it checks it here. */
export type PlanMessage =
  | {
      readonly type: 'plan'
      readonly planner: string
      /** The planner's operation. */
      readonly operation: string
      readonly pool: string
      /** By gateway. */
      readonly parts: { readonly [gateway: string]: readonly PlannedMove[] }
    }
  | {
      readonly type: 'part-ended'
      readonly planner: string
      readonly operation: string
      readonly gateway: string
      readonly moved: number
    }
  | {
      /** What the gateway's sessions make at each node, where the pool is balanced by traffic. */
      readonly type: 'loads'
      readonly gateway: string
      readonly pool: string
      readonly loads: { readonly [node: string]: number }
      /** It has moved some of them just now. */
      readonly moved: boolean
    }

/** Returns null for anything that is not a message of this version. */
export function parsePlanMessage(payload: Buffer): PlanMessage | null {
  let value: Record<string, unknown>
  try {
    value = JSON.parse(payload.toString('utf8'))
  } catch {
    return null
  }
  if (!isObject(value)) return null
  if (value.type === 'loads') {
    const { gateway, pool, loads, moved } = value
    if (!isText(gateway) || !isText(pool) || !isObject(loads) || typeof moved !== 'boolean') return null
    return Object.values(loads).every(isLoad)
      ? { type: 'loads', gateway, pool, loads: loads as Record<string, number>, moved }
      : null
  }
  if (!isText(value.planner) || !isText(value.operation)) return null
  const { planner, operation } = value
  if (value.type === 'part-ended') {
    const { gateway, moved } = value
    return isText(gateway) && isCount(moved)
      ? { type: 'part-ended', planner, operation, gateway, moved }
      : null
  }
  const { type, pool, parts } = value
  if (type !== 'plan' || !isText(pool) || !isObject(parts)) return null
  if (!Object.values(parts).every((part) => Array.isArray(part) && part.every(isMove))) return null
  return { type: 'plan', planner, operation, pool, parts: parts as Record<string, PlannedMove[]> }
}

function isMove(value: unknown): value is PlannedMove {
  return isObject(value) && isText(value.from) && isText(value.to) && isCount(value.count)
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= 128
}

function isLoad(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && Number.isFinite(value)
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
