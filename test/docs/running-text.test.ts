import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { Command as CommanderCommand } from 'commander'
import { expect, test } from 'vitest'
import { scenarios } from '../../bench/options.ts'
import { codeSpans, guides } from '../support/markdown.ts'

const root = path.resolve(import.meta.dirname, '../..')
const read = (file: string) => readFileSync(path.join(root, file), 'utf8')

/** The CLI without running it. */
async function program(): Promise<CommanderCommand> {
  const made = new CommanderCommand('evenkeel')
  for (const file of readdirSync(path.join(root, 'src/cli/commands'))) {
    const module = (await import(`../../src/cli/commands/${file}`)) as Record<string, unknown>
    for (const [name, add] of Object.entries(module))
      if (name.startsWith('add')) (add as (to: CommanderCommand) => void)(made)
  }
  return made
}

/** What is wrong with a command in running text, which may leave out what the reader fills in; or null. */
function complaintOf(span: string, cli: CommanderCommand): string | null {
  const words = span.replace(/^npm run evenkeel -- /, 'evenkeel ').split(/ +/)
  if (words[0] === 'evenkeel') {
    let command = cli
    for (const word of words.slice(1)) {
      const next = command.commands.find((each) => each.name() === word)
      if (next === undefined) break
      command = next
    }
    if (command === cli) return words[1]!.startsWith('-') ? null : `there is no command "${words[1]}"`
    const options = new Set(['--help', ...command.options.map(({ long }) => long)])
    const wrong = words.find((word) => word.startsWith('--') && !options.has(word))
    return wrong === undefined ? null : `${command.name()} has no ${wrong}`
  }
  const script = /^npm (?:run )?(start|test|(?<=run )[\w:.-]+)(?= |$)(?: -- (.*))?/.exec(span)
  if (script !== null) {
    const [, name, args = ''] = script
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
    if (scripts[name!] === undefined) return `package.json has no script "${name}"`
    const names = args.split(' ').filter((word) => /^[a-z]/.test(word))
    const isThere: Record<string, (word: string) => boolean> = {
      bench: (word) => scenarios.some((each) => each.name === word),
      'test:soak': (word) => existsSync(path.join(root, `test/soak/${word}.test.ts`)),
    }
    const missing = names.find((word) => isThere[name!]?.(word) === false)
    return missing === undefined ? null : `${name} knows no "${missing}"`
  }
  const file = /^npx vitest run (\S+)/.exec(span)?.[1]
  return file === undefined || existsSync(path.join(root, file)) ? null : `there is no ${file}`
}

test('commands in running text name scripts, scenarios, subcommands and options that there are', async () => {
  const cli = await program()
  const wrong = ['README.md', 'bench/README.md', ...guides()].flatMap((file) =>
    codeSpans(file)
      .filter((span) => /^(evenkeel|npm|npx) /.test(span))
      .map((span) => ({ span, complaint: complaintOf(span, cli) }))
      .filter(({ complaint }) => complaint !== null)
      .map(({ span, complaint }) => `${file}: \`${span}\`: ${complaint}`),
  )
  expect(wrong).toEqual([])
})
