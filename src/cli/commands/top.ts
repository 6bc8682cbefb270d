import { type Command, Option } from 'commander'
import { integerFrom } from '../arguments.ts'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'

export function addTop(program: Command): void {
  addOperatorCommand(program, 'top', 'watch and steer the cluster in the terminal')
    .summary('watch and steer the cluster, live')
    .addOption(
      new Option('--every <ms>', 'milliseconds between looks')
        .default(1_000)
        .argParser(integerFrom(100, 60_000)),
    )
    .option('--once', 'print one look and end')
    .addHelpText('after', '\nWithout a terminal, and with --json, each look is one line of JSON.')
    .action(
      operatorAction<[], { every: number; once?: boolean }>(
        async ({ api, url, json }, _args, { every, once = false }) => {
          const { look, Top } = await import('../top/top.ts')
          if (!json && !once && process.stdout.isTTY) {
            await Top.run(api, url, every)
            return
          }
          const { setTimeout: delay } = await import('node:timers/promises')
          for (;;) {
            process.stdout.write(`${JSON.stringify(await look(api))}\n`)
            if (once) return
            await delay(every)
          }
        },
      ),
    )
}
