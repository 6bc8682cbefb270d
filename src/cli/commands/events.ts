import type { Command } from 'commander'
import type { OperatorEvent } from '../../gateway/operator.ts'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'

export function addEvents(program: Command): void {
  addOperatorCommand(program, 'events', 'print what happens at the gateway until you press Ctrl-C')
    .summary('print what happens at the gateway')
    .action(
      operatorAction(async ({ api, url, out, json }) => {
        const { CommandFailed } = await import('../errors.ts')
        const { refusal } = await import('../api-client.ts')
        const { readEvents, eventLine } = await import('../event-reader.ts')
        const stop = new AbortController()
        process.once('SIGINT', () => stop.abort())
        process.once('SIGTERM', () => stop.abort())
        const response = await api.fetch('api/v1/events', { signal: stop.signal })
        if (!response.ok || response.body === null) throw new CommandFailed(await refusal(response, url))
        const print = (event: OperatorEvent) => {
          // One line each, so that other programs can read them as they come.
          process.stdout.write(`${json ? JSON.stringify(event) : eventLine(event, out.colour)}\n`)
        }
        await readEvents(response.body, print).catch((error: unknown) => {
          if (!stop.signal.aborted)
            throw new CommandFailed('The stream of events broke off.', { cause: error })
        })
        if (!stop.signal.aborted) throw new CommandFailed('The gateway ended the stream of events.')
      }),
    )
}
