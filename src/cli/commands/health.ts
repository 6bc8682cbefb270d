import type { Command } from 'commander'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'

export function addHealth(program: Command): void {
  addOperatorCommand(program, 'health', 'tell whether the gateway can serve clients, and if not why').action(
    operatorAction(async ({ api, url, out, json }) => {
      const { CommandFailed } = await import('../errors.ts')
      const response = await api.fetch('readyz')
      const readiness = (await response
        .clone()
        .json()
        .catch(() => null)) as { ready?: unknown; reasons?: string[] } | null
      if (typeof readiness?.ready !== 'boolean') {
        const { refusal } = await import('../api-client.ts')
        throw new CommandFailed(await refusal(response, url))
      }
      if (json) out.json(readiness)
      if (!readiness.ready)
        throw new CommandFailed(`The gateway is not ready: ${readiness.reasons?.join('; ')}`)
      if (!json) out.line(`The gateway at ${url.origin} is ${out.colour('green', 'ready')}.`)
    }),
  )
}
