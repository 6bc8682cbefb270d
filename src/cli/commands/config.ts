import type { Command } from 'commander'

export function addConfig(program: Command): void {
  const config = program.command('config').description('check a configuration file, or print its schema')

  config
    .command('check <file>')
    .description('name every mistake in a configuration file')
    .option('--json', 'print the result as JSON')
    .action(async (file: string, { json }: { json?: boolean }) => {
      const { checkConfigFile } = await import('../config.ts')
      const { ConfigError } = await import('../config-error.ts')
      try {
        const checked = await checkConfigFile(file)
        if (json) print({ valid: true, config: checked })
        else process.stdout.write(`${file}: valid\n`)
      } catch (error) {
        if (json && error instanceof ConfigError) print({ valid: false, mistakes: error.mistakes })
        throw error
      }
    })

  config
    .command('schema')
    .description('print the JSON Schema of the configuration file, for editors')
    .option('--json', 'no difference: a schema is JSON')
    .action(async () => {
      const { configJsonSchema } = await import('../config-schema.ts')
      print(configJsonSchema())
    })
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
}
