/** Ways in which language models answer. The names are those of `format` in the `run` event of their runs. */
export const dialects = ['openai', 'openai-responses', 'anthropic', 'ai-sdk'] as const
export type Dialect = (typeof dialects)[number]

/** Why a stream ends before it is whole. */
export interface StreamFailure {
  /** An error code, or one of `fail` events. `CANCELLED`: somebody has cancelled the run. */
  readonly code: string
  readonly message: string
}

export function isDialect(value: unknown): value is Dialect {
  return dialects.some((dialect) => dialect === value)
}

/** What is spoken at a path, whatever is before it; null: nothing that is known. */
export function dialectOf(path: string): Dialect | null {
  if (path.endsWith('/chat/completions')) return 'openai'
  if (path.endsWith('/responses')) return 'openai-responses'
  if (path.endsWith('/messages')) return 'anthropic'
  return null
}

/**
 * Ends a stream so that the dialect's own clients throw. An end without a word is a success to clients of OpenAI and of the AI SDK.
 */
export function encodeStreamFailure(dialect: Dialect, failure: StreamFailure): string {
  const { code, message } = failure
  switch (dialect) {
    case 'openai':
      return `data: ${JSON.stringify(refusalOf(dialect, failure, 500))}\n\n`
    case 'openai-responses':
      // Both shapes: the event of the documentation, and `error`, which older clients look for.
      return `event: error\ndata: ${JSON.stringify({ type: 'error', code, message, param: null, ...errorOf(failure, 500) })}\n\n`
    case 'anthropic':
      return `event: error\ndata: ${JSON.stringify(refusalOf(dialect, failure, 500))}\n\n`
    case 'ai-sdk': {
      const part = code === 'CANCELLED' ? { type: 'abort' } : { type: 'error', errorText: message }
      return `data: ${JSON.stringify(part)}\n\ndata: [DONE]\n\n`
    }
  }
}

/** The body of an answer in place of a stream, with its status. */
export function refusalOf(dialect: Dialect, failure: StreamFailure, status: number): object {
  if (dialect === 'anthropic')
    return { type: 'error', error: { type: anthropicType(failure.code, status), message: failure.message } }
  return errorOf(failure, status)
}

function errorOf({ code, message }: StreamFailure, status: number): object {
  const type = status < 500 ? 'invalid_request_error' : 'server_error'
  return { error: { message, type, param: null, code } }
}

function anthropicType(code: string, status: number): string {
  if (code === 'NO_NODE' || code === 'NOT_READY' || code === 'DRAINING') return 'overloaded_error'
  if (status === 404) return 'not_found_error'
  if (status === 413) return 'request_too_large'
  if (status === 429) return 'rate_limit_error'
  return status < 500 ? 'invalid_request_error' : 'api_error'
}

const endings: Readonly<Record<Dialect, RegExp>> = {
  openai: /^data: ?(\[DONE\]|\{"error")|"finish_reason": ?"/m,
  'openai-responses': /"type": ?"(response\.(completed|failed|incomplete)|error)"|^data: ?\{"error"/m,
  anthropic: /"type": ?"(message_stop|error)"/m,
  'ai-sdk': /^data: ?\[DONE\]|"type": ?"(finish|abort|error)"/m,
}

/** Whether a stream that ends so has said all: servers that die may end an answer as if it were one. */
export function isWhole(dialect: Dialect, ending: string): boolean {
  return endings[dialect].test(ending)
}
