/**
 * Every error that leaves Evenkeel has a code. The message names the field and the remedy and never
 * carries a secret.
 */
export const errorCatalog = {
  BAD_REQUEST: 400,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  CONFLICT: 409,
  VETO: 409,
  GONE: 410,
  TOKEN_USED: 410,
  TOO_LARGE: 413,
  UNSUPPORTED_MEDIA_TYPE: 415,
  CONFIG_INVALID: 422,
  UPGRADE_REQUIRED: 426,
  TOO_MANY_REQUESTS: 429,
  HEADERS_TOO_LARGE: 431,
  INTERNAL: 500,
  BAD_GATEWAY: 502,
  NO_NODE: 503,
  NOT_READY: 503,
  DRAINING: 503,
  OVERLOADED: 503,
  GATEWAY_TIMEOUT: 504,
  RECORD_INVALID: 400,
} as const

export type ErrorCode = keyof typeof errorCatalog

export class EvenkeelError extends Error {
  readonly code: ErrorCode
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'EvenkeelError'
    this.code = code
  }
}

/** Its HTTP answer. No getter of the error, since browsers have no use for the catalog. */
export function statusOf({ code }: EvenkeelError): number {
  return errorCatalog[code]
}

/** `application/problem+json` (RFC 9457). */
export interface Problem {
  type: string
  title: string
  status: number
  detail: string
  code: ErrorCode
}

export function toProblem(error: unknown): Problem {
  const known =
    error instanceof EvenkeelError ? error : new EvenkeelError('INTERNAL', 'Unexpected error; see the log.')
  return {
    type: 'about:blank',
    title: known.code.toLowerCase().replaceAll('_', ' '),
    status: statusOf(known),
    detail: known.message,
    code: known.code,
  }
}
