import { setTimeout as sleep } from 'node:timers/promises'
import { broadcastPayload } from '../load/broadcast.ts'
import type { PublishCommand, PublishReply } from '../peers/fanout/publisher.ts'

/**
 * Publishes by a clock of its own: a command for each message would cost those systems whose publisher is counted.
 * `publish` gets the messages of one event-loop turn.
 */
export function publishOnCommand(publish: (payloads: string[]) => void | Promise<void>): void {
  process.on('message', async (command: PublishCommand) => {
    const { ticks, burst } = command
    const reply = await publishAll(command, publish).then(
      (): PublishReply => ({ published: ticks * burst }),
      (error: unknown): PublishReply => ({ error: String(error) }),
    )
    process.send?.(reply)
  })
  process.on('disconnect', () => process.exit(0))
}

async function publishAll(
  { ticks, perSecond, burst, firstSequence }: PublishCommand,
  publish: (payloads: string[]) => void | Promise<void>,
): Promise<void> {
  const begin = performance.now()
  for (let tick = 0; tick < ticks; tick++) {
    const due = begin + (tick * 1_000) / perSecond
    await sleep(Math.max(0, due - performance.now()))
    const first = firstSequence + tick * burst
    await publish(Array.from({ length: burst }, (_, i) => broadcastPayload(first + i)))
  }
}
