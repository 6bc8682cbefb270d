import type { Problem } from '../protocol/errors.ts'
import { CommandFailed } from './errors.ts'

export interface ApiClient {
  /** Calls a path below `/api/v1` and gives its JSON; undefined for an empty answer. Throws CommandFailed. */
  call<T>(method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, body?: object): Promise<T>
  /** The raw answer of a path below the listener's root, whatever its status. Throws CommandFailed. */
  fetch(path: string, init?: RequestInit): Promise<Response>
}

export interface ApiClientOptions {
  url: URL
  token: string | null
  /** A call that has no answer by then fails. Default 10,000 ms. */
  timeoutMs?: number
}

/** Talks to the internal listener of a gateway and turns what goes wrong into sentences with a remedy. */
export function createApiClient({ url, token, timeoutMs = 10_000 }: ApiClientOptions): ApiClient {
  const headers: Record<string, string> = token === null ? {} : { authorization: `Bearer ${token}` }

  const client: ApiClient = {
    async fetch(path, init = {}) {
      try {
        return await fetch(new URL(path, url), {
          ...init,
          headers: { ...headers, ...init.headers },
          redirect: 'error',
          signal: init.signal ?? AbortSignal.timeout(timeoutMs),
        })
      } catch (error) {
        throw new CommandFailed(unreachable(url, error), { cause: error })
      }
    },
    async call<T>(method: string, path: string, body?: object) {
      const response = await client.fetch(
        `api/v1${path}`,
        body === undefined
          ? { method }
          : { method, body: JSON.stringify(body), headers: { 'content-type': 'application/json' } },
      )
      if (!response.ok) throw new CommandFailed(await refusal(response, url))
      if (response.status === 204) return undefined as T
      return (await readJson(response, url)) as T
    },
  }
  return client
}

/** One segment of a path. */
export function segment(id: string): string {
  return encodeURIComponent(id)
}

/** The sentence for an answer that is not a success. */
export async function refusal(response: Response, url: URL): Promise<string> {
  const problem = (await response.json().catch(() => null)) as Partial<Problem> | null
  if (typeof problem?.detail !== 'string') {
    return `${url.origin} answered ${response.status}, not like an Evenkeel admin API. Is it the gateway's internal listener?`
  }
  if (response.status === 401) {
    return `The gateway at ${url.origin} wants the admin token: set EVENKEEL_ADMIN_TOKEN to the gateway's value.`
  }
  return problem.detail
}

async function readJson(response: Response, url: URL): Promise<unknown> {
  try {
    return await response.json()
  } catch (error) {
    throw new CommandFailed(
      `${url.origin} did not answer with JSON. Is it the gateway's internal listener?`,
      { cause: error },
    )
  }
}

function unreachable(url: URL, error: unknown): string {
  return (
    `Cannot reach a gateway at ${url.origin} (${reasonOf(error)}). ` +
    'Start one with "evenkeel gateway", or name its internal listener with --url or EVENKEEL_ADMIN_URL.'
  )
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.name === 'TimeoutError') return 'no answer in time'
  const { cause } = error
  if (cause instanceof Error) return (cause as NodeJS.ErrnoException).code ?? cause.message
  return error.message
}
