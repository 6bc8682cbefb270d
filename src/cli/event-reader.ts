import type { OperatorEvent } from '../gateway/operator.ts'
import { operationProgress, operationTitle } from './operation-text.ts'
import { milliseconds, type Output, percent, printable } from './output.ts'

const lineCharactersMax = 4 * 1024 * 1024

/** Hands over each event of the gateway's stream. Resolves when the stream ends. */
export async function readEvents(
  body: ReadableStream<Uint8Array>,
  onEvent: (event: OperatorEvent) => void,
): Promise<void> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > lineCharactersMax) throw new Error('An event is too large.')
    // The gateway writes each event as one `data:` line; everything else is a name or a heartbeat.
    for (const line of lines) if (line.startsWith('data: ')) onEvent(JSON.parse(line.slice('data: '.length)))
  }
}

export function eventLine(event: OperatorEvent, colour: Output['colour']): string {
  const time = new Date(event.at).toISOString().slice(11, 23)
  return `${colour('dim', time)}  ${event.type.padEnd(12)}  ${printable(eventText(event))}`
}

function eventText(event: OperatorEvent): string {
  switch (event.type) {
    case 'node-up':
      return `${event.node} joined pool ${event.pool}`
    case 'node-suspect':
    case 'node-healthy':
      return event.node
    case 'node-down':
      return `${event.node}: ${event.reason}, ${event.sessions} sessions to re-assign`
    case 'node-weight':
      return `${event.node} weighs ${event.weight}`
    case 'node-state':
      return `${event.node} is ${event.state}`
    case 'plan':
      return `pool ${event.pool}: ${event.moves.reduce((sum, move) => sum + move.count, 0)} to move, imbalance ${percent(event.imbalanceBefore)}, ${percent(event.imbalanceAfter)} after`
    case 'migration':
      return `${event.session} ${event.from ?? '(none)'} -> ${event.to}: ${event.outcome} (${event.reason}), pause ${milliseconds(event.pauseMs)}, ${event.held} held`
    case 'operation': {
      const { operation } = event
      const { state, failed } = operation
      return `${operationTitle(operation)}: ${state}, ${operationProgress(operation)}, ${failed} failed`
    }
    case 'publish-failed':
      return `${event.node} to ${event.channel}: ${event.reason}`
    case 'continued':
      return `${event.session} at ${event.node}: ${event.tier} after ${event.cause}`
    case 'session-lost':
      return `${event.session}: ${event.reason}`
    case 'canary': {
      const { canary, pool, version, percent, state, reason } = event
      return `${canary}: ${state}, version ${version} has ${percent} % of pool ${pool}${reason === '' ? '' : ` (${reason})`}`
    }
    case 'overload':
      return `${event.from} -> ${event.to}${event.strain === null ? '' : `: ${event.strain}`}`
    case 'upstream-ignored':
      return `${event.upstream}: ${event.reason}`
    default:
      return JSON.stringify(event satisfies never)
  }
}
