import { EvenkeelError } from '../../protocol/errors.ts'
import { ConfigError } from '../config-error.ts'
import type { Failure } from './messages.ts'

/** What is said of an error to another process. */
export function toFailure(error: unknown): Failure {
  if (error instanceof ConfigError)
    return { code: error.code, message: error.message, mistakes: error.mistakes }
  if (error instanceof EvenkeelError) return { code: error.code, message: error.message }
  return { code: 'INTERNAL', message: error instanceof Error ? error.message : String(error) }
}

export function fromFailure({ code, message, mistakes }: Failure): EvenkeelError {
  return mistakes === undefined ? new EvenkeelError(code, message) : new ConfigError(mistakes)
}
