import { enginePath, engineSid } from '../../protocol/engine-paths.ts'

/**
 * What a request is to the gateway. `hello`: a session, new or not, as its first frame says. `message`: of a session that is there.
 * `run`: something is generated. `request`: passed on to an upstream. `health`: is the gateway there?
 */
export type RequestKind = 'health' | 'session' | 'hello' | 'resume' | 'message' | 'run' | 'request' | 'other'

export interface KindOfRequest {
  readonly method: string
  /** Without the query, as it is where no route says otherwise. */
  readonly path: string
  readonly query: string
  /** What upstreams it goes to; null: it does not. */
  readonly routed: 'http' | 'llm' | null
  readonly upgrade: boolean
  readonly wantsEvents: boolean
  readonly lastEventId: string
  readonly subprotocols: string
}

export function kindOfRequest(request: KindOfRequest): RequestKind {
  const { method, path, routed, upgrade, wantsEvents, lastEventId } = request
  if (method === 'OPTIONS') return 'other'
  if (routed === 'llm') return method === 'POST' ? 'run' : 'resume'
  const isStream = upgrade || (method === 'GET' && wantsEvents)
  if (routed !== null) return !isStream ? 'request' : lastEventId === '' ? 'session' : 'resume'
  if (path === '/healthz' || path === '/readyz') return 'health'
  if (enginePath(path) !== null) return engineSid(request.query) === null ? 'session' : 'message'
  if (upgrade) return /(^|[\s,])evenkeel\./.test(request.subprotocols) ? 'hello' : 'session'
  if (path === '/sse') return lastEventId === '' ? 'session' : 'resume'
  if (path === '/sse/v1') return 'hello'
  if (path.startsWith('/sse/')) return 'message'
  if (path === '/runs') return 'run'
  if (path.startsWith('/runs/')) return method === 'GET' ? 'resume' : 'message'
  return 'other'
}

/** It opens a connection that stays, or a stream. */
export function isOpening(kind: RequestKind): boolean {
  return kind === 'session' || kind === 'hello' || kind === 'resume' || kind === 'run'
}
