import type { Command } from 'commander'
import type { NodeView } from '../../gateway/operator.ts'
import { segment } from '../api-client.ts'
import { parseWeight } from '../arguments.ts'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'

export function addWeight(program: Command): void {
  addOperatorCommand(program, 'weight', "change a node's weight")
    .argument('<node>', 'the node')
    .argument(
      '<weight>',
      'above 0; a node of weight 2 gets twice the sessions of a node of weight 1',
      parseWeight,
    )
    .action(
      operatorAction<[string, number], object>(async ({ api, out, json }, [id, weight]) => {
        const node = await api.call<NodeView>('PATCH', `/nodes/${segment(id)}`, { weight })
        if (json) return out.json(node)
        const { nodeColumns } = await import('../views.ts')
        out.table([node], nodeColumns)
      }),
    )
}
