import { createHash } from 'node:crypto'
import type { NamespaceView } from './views.ts'

/** Socket.IO counts acknowledgements by namespace and process: 2^30 processes, 2^23 numbers each, together below 2^53. */
const numbers = 2 ** 23
const slots = 2 ** 30

/** Tells the ids of one process from those of others. */
export function slotOf(instance: string): number {
  return 1 + (createHash('sha256').update(instance).digest().readUInt32LE(0) % (slots - 1))
}

export function slotOfAck(id: number): number {
  return Math.floor(id / numbers)
}

/** From now on the namespace counts in the slot, and begins anew when it is through. */
export function countInSlot(namespace: NamespaceView, slot: number): void {
  let last = 0
  Object.defineProperty(namespace, '_ids', {
    get: () => slot * numbers + last,
    set(next: number) {
      last = next % numbers
    },
    configurable: true,
  })
}
