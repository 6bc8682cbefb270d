import { setTimeout as delay } from 'node:timers/promises'
import type { Operation } from '../gateway/operator.ts'
import { type ApiClient, segment } from './api-client.ts'
import { CommandFailed } from './errors.ts'
import { operationProgress, operationTitle } from './operation-text.ts'
import { milliseconds, type Output, printable } from './output.ts'

const pollFirstMs = 50
const pollMaxMs = 500

/** Asks for the operation until it ended. Progress goes to stderr, and only when that is a terminal. */
export async function followOperation(api: ApiClient, started: Operation): Promise<Operation> {
  const terminal = process.stderr.isTTY ? process.stderr : null
  let operation = started
  let pauseMs = pollFirstMs
  try {
    while (operation.state === 'running') {
      terminal?.write(`\r\u001b[K${progressLine(operation, Date.now())}`)
      await delay(pauseMs)
      pauseMs = Math.min(pollMaxMs, pauseMs * 1.5)
      operation = await api.call<Operation>('GET', `/operations/${segment(started.id)}`)
    }
  } finally {
    terminal?.write('\r\u001b[K')
  }
  return operation
}

function progressLine(operation: Operation, nowMs: number): string {
  const seconds = Math.max(0, (nowMs - operation.startedAt) / 1000).toFixed(1)
  return `${headline(operation)}: ${operationProgress(operation, '/')}, ${operation.failed} failed, ${seconds} s`
}

/** The end of an operation in one line. */
export function operationLine(operation: Operation, colour: Output['colour']): string {
  const { state, failed, pauseMs, startedAt, endedAt } = operation
  const shade = state === 'done' ? 'green' : state === 'running' ? 'yellow' : 'red'
  const parts = [
    `${headline(operation)}: ${colour(shade, state)}`,
    operationProgress(operation),
    `${failed} failed`,
    ...(pauseMs === null ? [] : [`pause p50 ${milliseconds(pauseMs.p50)}, p99 ${milliseconds(pauseMs.p99)}`]),
    ...(endedAt === null ? [] : [`took ${milliseconds(endedAt - startedAt)}`]),
  ]
  return parts.join(', ')
}

/** Throws CommandFailed unless the operation was done. */
export function assertDone(operation: Operation): void {
  if (operation.state !== 'failed' && operation.state !== 'cancelled') return
  throw new CommandFailed(
    `${headline(operation)} ${operation.state}: ${operationProgress(operation)}, ${operation.failed} failed. ` +
      `Look at it with "evenkeel operation ${printable(operation.id)}".`,
  )
}

function headline(operation: Operation): string {
  return printable(operationTitle(operation))
}
