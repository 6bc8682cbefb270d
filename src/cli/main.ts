#!/usr/bin/env node
import { createRequire } from 'node:module'
import { Command, CommanderError } from 'commander'
import { EvenkeelError } from '../protocol/errors.ts'
import { addActivate } from './commands/activate.ts'
import { addCanary } from './commands/canary.ts'
import { addChannel } from './commands/channel.ts'
import { addCompletion } from './commands/completion.ts'
import { addConfig } from './commands/config.ts'
import { addDemo } from './commands/demo.ts'
import { addDrain } from './commands/drain.ts'
import { addEvents } from './commands/events.ts'
import { addGateway } from './commands/gateway.ts'
import { addGateways } from './commands/gateways.ts'
import { addHealth } from './commands/health.ts'
import { addMigrate } from './commands/migrate.ts'
import { addNodes } from './commands/nodes.ts'
import { addOperation } from './commands/operation.ts'
import { addPublish } from './commands/publish.ts'
import { addRebalance } from './commands/rebalance.ts'
import { addSessions } from './commands/sessions.ts'
import { addSimulate } from './commands/simulate.ts'
import { addTop } from './commands/top.ts'
import { addUpstreams } from './commands/upstreams.ts'
import { addWeight } from './commands/weight.ts'
import { CommandFailed } from './errors.ts'

const exitCodes = { done: 0, failed: 1, usage: 2 } as const

function createProgram(): Command {
  const { version } = createRequire(import.meta.url)('evenkeel/package.json') as { version: string }
  const program = new Command('evenkeel')
    .description('A realtime gateway that keeps long-lived connections balanced.')
    .version(version)
    .exitOverride()
    .showHelpAfterError('(see --help)')
  addGateway(program)
  addDemo(program)
  addTop(program)
  addNodes(program)
  addSessions(program)
  addDrain(program)
  addActivate(program)
  addWeight(program)
  addUpstreams(program)
  addRebalance(program)
  addCanary(program)
  addGateways(program)
  addMigrate(program)
  addPublish(program)
  addChannel(program)
  addEvents(program)
  addOperation(program)
  addHealth(program)
  addSimulate(program)
  addConfig(program)
  addCompletion(program)
  return program.addHelpText(
    'after',
    '\nExit code: 0 done, 1 failed, 2 wrong usage. Operator commands read EVENKEEL_ADMIN_URL and EVENKEEL_ADMIN_TOKEN.',
  )
}

function reportFailure(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.usage
  const isExpected = error instanceof CommandFailed || error instanceof EvenkeelError
  const text = isExpected
    ? error.message
    : error instanceof Error
      ? (error.stack ?? error.message)
      : String(error)
  process.stderr.write(`evenkeel: ${text}\n`)
  return exitCodes.failed
}

// A reader that has seen enough, such as `head`, is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(exitCodes.done)
  throw error
})

try {
  await createProgram().parseAsync()
} catch (error) {
  process.exitCode = reportFailure(error)
}
