import { Argument, type Command } from 'commander'
import {
  type Completion,
  complete,
  completionScript,
  hiddenCommand,
  type Shell,
  shells,
} from '../completion.ts'

/** A shell waits for this: names of a gateway that does not answer at once are left out. */
const liveTimeoutMs = 500

export function addCompletion(program: Command): void {
  program
    .command('completion')
    .description(
      'print a script that completes commands, options and names of nodes: eval "$(evenkeel completion bash)"',
    )
    .addArgument(new Argument('<shell>').choices(shells))
    .action((shell: Shell) => void process.stdout.write(completionScript(shell)))

  program
    .command(hiddenCommand, { hidden: true })
    .argument('[words...]')
    .allowUnknownOption()
    .action(async (words: string[]) => {
      const completion = complete(program, words)
      if (completion.file) {
        process.stdout.write(':file\n')
        return
      }
      const names = [...completion.words, ...(await liveNames(completion, words.at(-1) ?? ''))]
      process.stdout.write(names.map((name) => `${name}\n`).join(''))
    })
}

async function liveNames({ live }: Completion, start: string): Promise<string[]> {
  if (live === null) return []
  const { createApiClient } = await import('../api-client.ts')
  const url = new URL(process.env.EVENKEEL_ADMIN_URL || 'http://127.0.0.1:8081/')
  const token = process.env.EVENKEEL_ADMIN_TOKEN || null
  const api = createApiClient({ url, token, timeoutMs: liveTimeoutMs })
  try {
    const found = await api.call<{ id: string }[] | { sessions: { id: string }[] }>('GET', `/${live}s`)
    const list = Array.isArray(found) ? found : found.sessions
    return list.map(({ id }) => id).filter((id) => id.startsWith(start))
  } catch {
    return []
  }
}
