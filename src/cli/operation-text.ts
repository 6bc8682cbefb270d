import type { Operation } from '../gateway/operator.ts'

/** What the operation does to whom, not yet safe to print. */
export function operationTitle({ kind, subject }: Operation): string {
  return kind === 'drain-gateway' ? `drain of gateway ${subject}` : `${kind} of ${subject}`
}

/** `3 of 5 moved`: sessions move to other nodes, the clients of a gateway leave it. */
export function operationProgress({ kind, moved, total }: Operation, separator = ' of '): string {
  return `${moved}${separator}${total} ${kind === 'drain-gateway' ? 'left' : 'moved'}`
}
