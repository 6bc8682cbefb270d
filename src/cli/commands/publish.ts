import type { Command } from 'commander'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'

export function addPublish(program: Command): void {
  addOperatorCommand(
    program,
    'publish <channel> <data>',
    'send a message to all members of a channel',
  ).action(
    operatorAction<[string, string], object>(async (context, [channel, data]) => {
      const answer = await context.api.call<{ deliveredLocal: number }>('POST', '/publish', { channel, data })
      if (context.json) context.out.json(answer)
      else context.out.line(`published; ${answer.deliveredLocal} members at this gateway`)
    }),
  )
}
