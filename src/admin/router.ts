import type { IncomingMessage, ServerResponse } from 'node:http'
import type { z } from 'zod'
import { EvenkeelError } from '../protocol/errors.ts'
import { readJsonBody, sendJson, sendProblem } from './http.ts'
import { coerceText, complaintText, explain, toJsonSchema } from './validation.ts'

export interface Call<Body = unknown, Query = unknown> {
  params: string[]
  body: Body
  query: Query
  request: IncomingMessage
  response: ServerResponse
}

/** null: the handler answers by itself, now or later. */
export type Reply = { status: number; body?: unknown } | null

export interface Route<Body, Query> {
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  /** A segment that starts with a colon takes any text, percent-decoded. */
  path: string
  body?: z.ZodType<Body>
  query?: z.ZodType<Query>
  handle(call: Call<Body, Query>): Reply | Promise<Reply>
}

interface CompiledRoute {
  segments: string[]
  route: Route<unknown, unknown>
}

/** Keeps the types of body and query inside one route of a mixed table. */
export function route<Body = undefined, Query = undefined>(
  definition: Route<Body, Query>,
): Route<unknown, unknown> {
  return definition as unknown as Route<unknown, unknown>
}

/** Answers a request whose path starts below `prefix`; errors become problem+json, unexpected ones reach `onError`. */
export function createRouter(options: {
  prefix: string
  routes: Route<unknown, unknown>[]
  onError(error: unknown, request: IncomingMessage): void
}): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  const table = options.routes.map((one) => ({ segments: one.path.slice(1).split('/'), route: one }))
  return async (request, response) => {
    try {
      await dispatch(table, options.prefix, request, response)
    } catch (error) {
      if (!(error instanceof EvenkeelError)) options.onError(error, request)
      sendProblem(response, error)
    }
  }
}

async function dispatch(
  table: CompiledRoute[],
  prefix: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { path, search } = splitTarget(request.url ?? '/')
  const segments = path.slice(prefix.length + 1).split('/')
  const candidates = table.filter((one) => matches(one.segments, segments))
  if (candidates.length === 0)
    throw new EvenkeelError('NOT_FOUND', 'There is no such route in the admin API.')
  const wanted = request.method === 'HEAD' ? 'GET' : request.method
  const found = candidates.find((one) => one.route.method === wanted)
  if (found === undefined) {
    sendProblem(response, ...methodNotAllowed(candidates.map((one) => one.route.method)))
    return
  }
  const params = paramsOf(found.segments, segments)
  const query = parseQuery(found.route.query, search)
  const body = found.route.body && check(found.route.body, await readJsonBody(request), 'body')
  const reply = await found.route.handle({ params, query, body, request, response })
  if (reply === null) return
  if (reply.status === 204) response.writeHead(204).end()
  else sendJson(response, reply.status, reply.body)
}

export function methodNotAllowed(methods: string[]): [EvenkeelError, { allow: string }] {
  const allowed = [...new Set(methods.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method])))]
  const allow = allowed.join(', ')
  return [new EvenkeelError('METHOD_NOT_ALLOWED', `Allowed here: ${allow}.`), { allow }]
}

/** Splits by hand: a URL parser would resolve dots and take `//name` for a host. Throws BAD_REQUEST. */
export function splitTarget(target: string): { path: string; search: string } {
  if (!target.startsWith('/')) {
    throw new EvenkeelError('BAD_REQUEST', 'The request target must be a path.')
  }
  const mark = target.indexOf('?')
  return mark === -1
    ? { path: target, search: '' }
    : { path: target.slice(0, mark), search: target.slice(mark + 1) }
}

function matches(pattern: string[], segments: string[]): boolean {
  return (
    pattern.length === segments.length &&
    pattern.every((part, index) => (part.startsWith(':') ? segments[index] !== '' : part === segments[index]))
  )
}

function paramsOf(pattern: string[], segments: string[]): string[] {
  return segments.filter((_, index) => pattern[index]?.startsWith(':')).map(decode)
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    throw new EvenkeelError('BAD_REQUEST', 'The path is not valid percent-encoded UTF-8.')
  }
}

function parseQuery(schema: z.ZodType | undefined, search: string): unknown {
  const given = [...new URLSearchParams(search)]
  if (schema === undefined) {
    if (given.length === 0) return undefined
    throw new EvenkeelError('BAD_REQUEST', 'query: this route takes no parameters.')
  }
  const properties = toJsonSchema(schema).properties ?? {}
  const values = new Map<string, unknown>()
  for (const [name, text] of given) {
    if (values.has(name)) throw new EvenkeelError('BAD_REQUEST', 'query: give each parameter once.')
    values.set(name, coerceText(text, Object.hasOwn(properties, name) ? properties[name] : undefined))
  }
  return check(schema, Object.fromEntries(values), 'query')
}

function check(schema: z.ZodType, input: unknown, what: 'body' | 'query'): unknown {
  const result = schema.safeParse(input)
  if (result.success) return result.data
  const complaints = explain(schema, result.error, input).map(complaintText)
  throw new EvenkeelError('BAD_REQUEST', `${what}: ${complaints.join('; ')}.`)
}
