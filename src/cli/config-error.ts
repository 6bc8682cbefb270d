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
