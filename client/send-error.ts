import { type ErrorCode, EvenkeelError } from '../src/protocol/errors.ts'

/** `unsent`: the node has not got the message and will not. `unknown`: it may have been handled. */
export type SendOutcome = 'unknown' | 'unsent'

/** Why a message was not committed. */
export class SendError extends EvenkeelError {
  readonly outcome: SendOutcome
  constructor(code: ErrorCode, message: string, outcome: SendOutcome = 'unsent') {
    super(code, message)
    this.name = 'SendError'
    this.outcome = outcome
  }
}
