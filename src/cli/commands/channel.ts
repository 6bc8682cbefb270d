import type { Command } from 'commander'
import type { ChannelView } from '../../gateway/operator.ts'
import { segment } from '../api-client.ts'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'

export function addChannel(program: Command): void {
  addOperatorCommand(program, 'channel <name>', 'who is in a channel, gateway by gateway').action(
    operatorAction<[string], object>(async ({ api, out, json }, [name]) => {
      const channel = await api.call<ChannelView>('GET', `/channels/${segment(name)}`)
      if (json) return out.json(channel)
      const { printChannel } = await import('../views.ts')
      printChannel(out, channel)
    }),
  )
}
