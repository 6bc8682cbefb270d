import type { Command } from 'commander'
import type { ConfigView, ReloadReport } from '../../admin/config-api.ts'
import { addOperatorCommand, operatorAction } from '../operator-command.ts'
import { printable } from '../output.ts'

export function addConfig(program: Command): void {
  const config = program
    .command('config')
    .description('check a configuration file, print its schema, or reload that of a running gateway')

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

  addOperatorCommand(
    config,
    'print',
    'print the configuration that a gateway runs with, without secrets',
  ).action(
    operatorAction<[], object>(async ({ api, out, json }) => {
      const view = await api.call<ConfigView>('GET', '/config')
      if (json) return out.json(view)
      const { stringify } = await import('yaml')
      const notes = [
        `gateway ${view.gateway}, hash ${view.hash}, since ${new Date(view.loadedAt).toISOString()}`,
        ...(view.pending.length === 0 ? [] : [`waiting for a restart: ${view.pending.join(', ')}`]),
        ...(view.changedRoutes.length === 0
          ? []
          : [`routes changed since: ${view.changedRoutes.join(', ')}`]),
      ]
      out.line([...notes.map((note) => `# ${note}`), stringify(view.config).trimEnd()].join('\n'))
    }),
  )

  addOperatorCommand(config, 'reload', 'make a gateway read its configuration again; no connection is closed')
    .option('--dry-run', 'only show what would change')
    .action(
      operatorAction<[], { dryRun?: boolean }>(async ({ api, out, json }, _args, { dryRun = false }) => {
        const report = await api.call<ReloadReport>('POST', '/config/reload', { dryRun })
        if (json) return out.json(report)
        for (const change of report.changes) out.line(changeText(change))
        out.line(summaryOf(report))
      }),
    )
}

const effects = { live: '', new: ' (for what begins from now on)', restart: ' (after a restart)' } as const

function changeText({ path, from, to, effect }: ReloadReport['changes'][number]): string {
  const shown = (value: unknown) => (value === undefined ? '-' : JSON.stringify(value))
  const values = from === undefined && to === undefined ? 'changed' : `${shown(from)} → ${shown(to)}`
  return printable(`${path}: ${values}${effects[effect]}`)
}

function summaryOf({ outcome, hash, changes }: ReloadReport): string {
  if (outcome === 'planned') return changes.length === 0 ? 'Nothing would change.' : `It would be ${hash}.`
  return outcome === 'applied' ? `Reloaded: ${hash}.` : `Nothing has changed: ${hash}.`
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
}
