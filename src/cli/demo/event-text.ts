import type { OperatorEvent } from '../../gateway/operator.ts'
import { type Colour, milliseconds, percent } from '../output.ts'

export interface Note {
  text: string
  colour?: Colour
}

/** What is worth a line in the table; null for what the numbers show better. */
export function noteOf(event: OperatorEvent): Note | null {
  switch (event.type) {
    case 'node-up':
      return { text: `${event.node} is up`, colour: 'green' }
    case 'node-suspect':
      return { text: `${event.node} is silent: it gets no new sessions`, colour: 'yellow' }
    case 'node-healthy':
      return { text: `${event.node} answers again`, colour: 'green' }
    case 'node-down':
      return downNote(event)
    case 'node-weight':
      return { text: `${event.node} weighs ${event.weight} now` }
    case 'node-state':
      if (event.state === 'draining') return { text: `${event.node}: drain started`, colour: 'yellow' }
      return event.state === 'active' ? { text: `${event.node} takes sessions again`, colour: 'green' } : null
    case 'plan':
      return {
        text: `plan: ${total(event)} sessions move, imbalance ${percent(event.imbalanceBefore)} -> ${percent(event.imbalanceAfter)}`,
      }
    case 'operation':
      return operationNote(event.operation)
    case 'continued':
      // The rule is not worth a line.
      if (event.tier === 'exact') return null
      return { text: `a session at ${event.node} began anew (${event.tier})`, colour: 'yellow' }
    case 'canary':
      return { text: `canary of ${event.version}: ${event.state}, ${event.percent} %`, colour: 'yellow' }
    case 'overload':
      return { text: `a gateway is ${event.to}`, colour: event.to === 'normal' ? 'green' : 'red' }
    case 'session-lost':
      return { text: `a session ended: ${event.reason}`, colour: 'red' }
    default:
      return null
  }
}

function downNote({ node, sessions, reason }: OperatorEvent & { type: 'node-down' }): Note {
  if (sessions === 0) return { text: `${node} is gone (${reason})` }
  return { text: `${node} is down (${reason}): its ${sessions} sessions go on elsewhere`, colour: 'red' }
}

function total({ moves }: OperatorEvent & { type: 'plan' }): number {
  return moves.reduce((sum, { count }) => sum + count, 0)
}

function operationNote({
  kind,
  subject,
  state,
  moved,
  failed,
  pauseMs,
}: (OperatorEvent & { type: 'operation' })['operation']): Note | null {
  // Single moves come in numbers, and what begins is told by the plan or by the node's state.
  if (kind === 'migrate' || state === 'running') return null
  if (kind === 'drain-gateway') return { text: `${subject}: gateway drain ${state}`, colour: 'yellow' }
  const pause =
    pauseMs === null ? '' : `, pause p50 ${milliseconds(pauseMs.p50)}, p99 ${milliseconds(pauseMs.p99)}`
  const failures = failed === 0 ? '' : `, ${failed} failed`
  const what = kind === 'drain' ? `${subject}: drain` : kind
  return {
    text: `${what} ${state}: ${moved} moved${failures}${pause}`,
    colour: state === 'done' ? 'green' : 'yellow',
  }
}
