import type { Command } from 'commander'
import type { GatewayView } from '../../gateway/operator.ts'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'

export function addGateways(program: Command): void {
  addOperatorCommand(program, 'gateways', 'the gateways of the cluster').action(
    operatorAction<[], object>(async (context) => {
      const gateways = await context.api.call<GatewayView[]>('GET', '/gateways')
      if (context.json) context.out.json(gateways)
      else
        for (const { id, state, internalUrl } of gateways) context.out.line(`${id}  ${state}  ${internalUrl}`)
    }),
  )
}
