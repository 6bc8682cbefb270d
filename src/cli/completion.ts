import type { Command } from 'commander'

export const shells = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof shells)[number]

/** What a live gateway is asked for. */
export type LiveNames = 'node' | 'session' | 'gateway'

export interface Completion {
  /** Words that may stand where the last one is being typed. */
  readonly words: readonly string[]
  /** Names that only a running gateway knows belong there too. */
  readonly live: LiveNames | null
  /** A file name belongs there. */
  readonly file: boolean
}

const liveNames: ReadonlySet<string> = new Set<LiveNames>(['node', 'session', 'gateway'])
const nothing: Completion = { words: [], live: null, file: false }

/** What can stand for the last of `typed`, which may be empty; the words before it are as they are. */
export function complete(program: Command, typed: readonly string[]): Completion {
  const before = typed.slice(0, -1)
  const start = typed.at(-1) ?? ''
  let command = program
  let place = 0
  for (let i = 0; i < before.length; i++) {
    const word = before[i]!
    const option = optionOf(command, word)
    if (option !== undefined) {
      if (!takesValue(option) || word.includes('=')) continue
      if (i === before.length - 1) return matching(valuesOf(option), start)
      i++
    } else {
      const child = command.commands.find((one) => one.name() === word)
      if (child === undefined) place++
      else command = child
    }
  }
  if (start.startsWith('-')) {
    const words = command.options.filter(({ hidden }) => !hidden).map(({ long, short }) => long ?? short!)
    return matching({ ...nothing, words: [...words, '--help'] }, start)
  }
  const words = command.commands.map((one) => one.name()).filter((name) => name !== hiddenCommand)
  const argument = command.registeredArguments[place]?.name() ?? ''
  const live = liveNames.has(argument) ? (argument as LiveNames) : null
  const choices = command.registeredArguments[place]?.argChoices ?? []
  return matching({ words: [...words, ...choices], live, file: argument === 'file' }, start)
}

type Option = Command['options'][number]

function optionOf(command: Command, word: string): Option | undefined {
  const name = word.split('=')[0]
  return command.options.find(({ long, short }) => name === long || name === short)
}

function takesValue(option: Option): boolean {
  return option.required || option.optional
}

function valuesOf(option: Option): Completion {
  const name = /<(\w+)>/.exec(option.flags)?.[1] ?? ''
  const live = option.long === '--gateway' ? 'gateway' : liveNames.has(name) ? (name as LiveNames) : null
  return { words: option.argChoices ?? [], live, file: name === 'file' }
}

function matching(completion: Completion, start: string): Completion {
  return { ...completion, words: completion.words.filter((word) => word.startsWith(start)) }
}

/** Which the scripts call, with what has been typed. */
export const hiddenCommand = 'complete'

/** The script that a user's shell reads at its start. */
export function completionScript(shell: Shell): string {
  return scripts[shell]
}

const scripts: Record<Shell, string> = {
  bash: `_evenkeel() {
  local words
  words="$("\${COMP_WORDS[0]}" ${hiddenCommand} -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" || return
  if [ "$words" = ":file" ]; then compopt -o default; COMPREPLY=(); return; fi
  mapfile -t COMPREPLY <<< "$words"
  [ -n "$words" ] || COMPREPLY=()
}
complete -F _evenkeel evenkeel
`,
  zsh: `#compdef evenkeel
_evenkeel() {
  local -a found
  found=("\${(@f)$("\${words[1]}" ${hiddenCommand} -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ "\${found[1]}" == ":file" ]]; then _files; else compadd -- "\${(@)found:#}"; fi
}
compdef _evenkeel evenkeel
`,
  fish: `function __evenkeel
  set -l found (evenkeel ${hiddenCommand} -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)
  if test "$found" = ":file"; __fish_complete_path (commandline -ct); else; string join \\n $found; end
end
complete -c evenkeel -f -a '(__evenkeel)'
`,
}
