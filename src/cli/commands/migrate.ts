import type { Command } from 'commander'
import type { Operation } from '../../gateway/operator.ts'
import { segment } from '../api-client.ts'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'
import { reportOperation } from '../report-operation.ts'

export function addMigrate(program: Command): void {
  addOperatorCommand(program, 'migrate <session> <node>', 'move one session to a node').action(
    operatorAction<[string, string], object>(async (context, [session, node]) => {
      const path = `/sessions/${segment(session)}/migrate`
      const started = await context.api.call<Operation>('POST', path, { to: node })
      await reportOperation(context, started, true)
    }),
  )
}
