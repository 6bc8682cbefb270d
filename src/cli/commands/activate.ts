import type { Command } from 'commander'
import type { NodeView } from '../../gateway/operator.ts'
import { segment } from '../api-client.ts'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'

export function addActivate(program: Command): void {
  addOperatorCommand(program, 'activate <node>', 'undo a drain: the node takes sessions again').action(
    operatorAction<[string], object>(async ({ api, out, json }, [id]) => {
      const node = await api.call<NodeView>('POST', `/nodes/${segment(id)}/activate`, {})
      if (json) return out.json(node)
      const { nodeColumns } = await import('../views.ts')
      out.table([node], nodeColumns)
    }),
  )
}
