import type { CommandMessage, ReplyMessage } from './commands.ts'
import { Generator } from './generator.ts'

// The load process: commands come in and results go out over the channel of its parent, one at a time.

const generator = new Generator()

function reply(message: ReplyMessage): void {
  process.send?.(message)
}

process.on('message', async (message: CommandMessage) => {
  const method = generator[message.name] as (input: unknown) => Promise<unknown>
  try {
    reply({ id: message.id, output: await method.call(generator, message.input) })
  } catch (error) {
    reply({ id: message.id, error: error instanceof Error ? error.message : String(error) })
  }
})
process.on('disconnect', () => process.exit(0))
process.send?.({ ready: true })
