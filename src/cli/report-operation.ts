import type { Operation } from '../gateway/operator.ts'
import type { OperatorContext } from './operator-command.ts'

/** Follows an operation when asked to, prints how it stands, and throws CommandFailed when it failed. */
export async function reportOperation(
  context: OperatorContext,
  started: Operation,
  wait: boolean,
): Promise<void> {
  const { assertDone, operationLine } = await import('./follow-operation.ts')
  const { printable } = await import('./output.ts')
  const operation = wait ? await context.follow(started) : started
  if (context.json) context.out.json(operation)
  else if (operation.state === 'running') {
    context.out.line(
      `${operationLine(operation, context.out.colour)} (evenkeel operation ${printable(operation.id)})`,
    )
  } else context.out.line(operationLine(operation, context.out.colour))
  assertDone(operation)
}
