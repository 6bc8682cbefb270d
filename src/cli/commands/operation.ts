import type { Command } from 'commander'
import type { Operation } from '../../gateway/operator.ts'
import { segment } from '../api-client.ts'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'

export function addOperation(program: Command): void {
  addOperatorCommand(program, 'operation <id>', 'show how a drain, a rebalance or a migration stands').action(
    operatorAction<[string], object>(async ({ api, out, json }, [id]) => {
      const operation = await api.call<Operation>('GET', `/operations/${segment(id)}`)
      if (json) return out.json(operation)
      const { operationColumns } = await import('../views.ts')
      out.table([operation], operationColumns(Date.now()))
    }),
  )
}
