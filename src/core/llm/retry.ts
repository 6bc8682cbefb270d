import type { Dialect } from './dialect.ts'

/**
 * How a request ended before the head of an answer was there. `unanswered`: no connection was made. `cut`: the connection broke after the
 * request was sent. `other`: no time left, or no proper answer.
 */
export type AskFailure = 'unanswered' | 'cut' | 'other'

/**
 * Whether another server may be asked. A model that was lost before it said anything has done nothing but compute; behind the AI SDK there is
 * an application, of which that is not known.
 */
export function mayAskAnother(failure: AskFailure, dialect: Dialect): boolean {
  return failure === 'unanswered' || (failure === 'cut' && dialect !== 'ai-sdk')
}
