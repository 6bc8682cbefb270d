import { type Command, Option } from 'commander'
import type { Operation } from '../gateway/operator.ts'
import type { ApiClient } from './api-client.ts'
import { parseAdminUrl } from './arguments.ts'
import type { Output } from './output.ts'

/** What an operator command works with. */
export interface OperatorContext {
  api: ApiClient
  url: URL
  out: Output
  /** Print the API's JSON instead of tables. */
  json: boolean
  /** Follows an operation to its end, with a progress line on a terminal. */
  follow(operation: Operation): Promise<Operation>
}

/** Adds a command that talks to a running gateway: `--url`, `--json`, and the token from the environment. */
export function addOperatorCommand(parent: Command, usage: string, description: string): Command {
  return parent
    .command(usage)
    .description(description)
    .addOption(
      new Option('--url <url>', "the gateway's internal listener")
        .env('EVENKEEL_ADMIN_URL')
        .default(new URL('http://127.0.0.1:8081/'), 'http://127.0.0.1:8081')
        .argParser(parseAdminUrl),
    )
    .option('--json', "print the API's JSON")
}

/** The action of an operator command. What it needs is loaded only when it runs. */
export function operatorAction<Args extends unknown[], Options>(
  act: (context: OperatorContext, args: Args, options: Options) => Promise<void>,
): (...received: unknown[]) => Promise<void> {
  return async (...received) => {
    const command = received.at(-1) as Command
    // A command with subcommands takes the options that stand behind these.
    const options = command.optsWithGlobals<Options & { url: URL; json?: boolean }>()
    const [{ createApiClient }, { createOutput }, { followOperation }] = await Promise.all([
      import('./api-client.ts'),
      import('./output.ts'),
      import('./follow-operation.ts'),
    ])
    const api = createApiClient({ url: options.url, token: process.env.EVENKEEL_ADMIN_TOKEN || null })
    const out = createOutput()
    const context: OperatorContext = {
      api,
      url: options.url,
      out,
      json: options.json === true,
      follow: (operation) => followOperation(api, operation),
    }
    await act(context, command.processedArgs as Args, options)
  }
}
