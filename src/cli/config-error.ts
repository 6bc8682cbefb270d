import { pathText } from '../admin/validation.ts'
import { EvenkeelError } from '../protocol/errors.ts'

/** One mistake in the configuration. */
export interface ConfigMistake {
  /** The file, environment variable or flag that it is in. */
  source: string
  /** From 1; only for files. */
  line?: number
  /** From 1; only for files. */
  column?: number
  /** What is wrong and what is allowed. */
  message: string
}

/** A mistake of which is known what it is about, and not yet where that is written. */
export interface PlacedMistake {
  /** Empty: the whole. */
  readonly path: readonly PropertyKey[]
  readonly message: string
}

/** The message begins with the place. */
export function mistake(path: readonly PropertyKey[], what: string): PlacedMistake {
  return { path, message: `${pathText([...path])}: ${what}` }
}

/** Every mistake at once, one per line: `gateway.yaml:4:9: public.port: expected …`. */
export class ConfigError extends EvenkeelError {
  readonly mistakes: ConfigMistake[]
  constructor(mistakes: ConfigMistake[]) {
    super('CONFIG_INVALID', mistakes.map(mistakeText).join('\n'))
    this.name = 'ConfigError'
    this.mistakes = mistakes
  }
}

function mistakeText({ source, line, column, message }: ConfigMistake): string {
  return `${source}${line === undefined ? '' : `:${line}:${column}`}: ${message}`
}
