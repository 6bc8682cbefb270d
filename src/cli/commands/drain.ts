import { type Command, Option } from 'commander'
import type { Operation } from '../../gateway/operator.ts'
import { segment } from '../api-client.ts'
import { integerFrom } from '../arguments.ts'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'
import { reportOperation } from '../report-operation.ts'

interface Options {
  gateway?: string
  deadline?: number
  rate?: number
  wait: boolean
}

export function addDrain(program: Command): void {
  const command = addOperatorCommand(
    program,
    'drain [node]',
    'move all sessions off a node and give it no new ones, or send the clients of a gateway to others',
  )
    .addOption(
      new Option('--gateway <id>', 'drain a gateway in place of a node').conflicts(['deadline', 'rate']),
    )
    .option('--deadline <ms>', 'force the drain after this many milliseconds', integerFrom(1, 86_400_000))
    .option('--rate <n>', 'sessions to move per second', integerFrom(1, 1_000_000))
    .option('--no-wait', 'start the drain and return')
  command.action(
    operatorAction<[string | undefined], Options>(async (context, [node], { wait, ...options }) => {
      const { path, body } = drainRequest(command, node, options)
      const started = await context.api.call<Operation>('POST', path, body)
      await reportOperation(context, started, wait)
    }),
  )
}

function drainRequest(
  command: Command,
  node: string | undefined,
  { gateway, deadline, rate }: Omit<Options, 'wait'>,
): { path: string; body: object } {
  if (gateway !== undefined) {
    if (node !== undefined) command.error('error: name a node or --gateway <id>, not both')
    return { path: `/gateways/${segment(gateway)}/drain`, body: {} }
  }
  if (node === undefined) command.error("error: missing required argument 'node', or --gateway <id>")
  const body = {
    ...(deadline === undefined ? {} : { deadlineMs: deadline }),
    ...(rate === undefined ? {} : { ratePerSecond: rate }),
  }
  return { path: `/nodes/${segment(node)}/drain`, body }
}
