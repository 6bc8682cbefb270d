import type { Command } from 'commander'
import type { NodeView } from '../../gateway/operator.ts'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'

export function addNodes(program: Command): void {
  addOperatorCommand(program, 'nodes', 'list the nodes with their weights and shares').action(
    operatorAction(async ({ api, out, json }) => {
      const nodes = await api.call<NodeView[]>('GET', '/nodes')
      if (json) return out.json(nodes)
      if (nodes.length === 0) return out.line('No node has registered yet.')
      const { nodeColumns } = await import('../views.ts')
      out.table(nodes, nodeColumns)
    }),
  )
}
