import type { Command } from 'commander'
import type { Operation } from '../../gateway/operator.ts'
import { segment } from '../api-client.ts'
import { integerFrom } from '../arguments.ts'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'
import { reportOperation } from '../report-operation.ts'

interface Options {
  deadline?: number
  rate?: number
  wait: boolean
}

export function addDrain(program: Command): void {
  addOperatorCommand(program, 'drain <node>', 'move all sessions off a node and give it no new ones')
    .option('--deadline <ms>', 'force the drain after this many milliseconds', integerFrom(1, 86_400_000))
    .option('--rate <n>', 'sessions to move per second', integerFrom(1, 1_000_000))
    .option('--no-wait', 'start the drain and return')
    .action(
      operatorAction<[string], Options>(async (context, [node], { deadline, rate, wait }) => {
        const body = {
          ...(deadline === undefined ? {} : { deadlineMs: deadline }),
          ...(rate === undefined ? {} : { ratePerSecond: rate }),
        }
        const started = await context.api.call<Operation>('POST', `/nodes/${segment(node)}/drain`, body)
        await reportOperation(context, started, wait)
      }),
    )
}
