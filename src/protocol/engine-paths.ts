/** Where Engine.IO is spoken, for clients and between gateways. */
export type EnginePath = '/socket.io/' | '/engine.io/'

/** The path of a request as clients of Engine.IO write it; null: not one of theirs. */
export function enginePath(path: string): EnginePath | null {
  if (path === '/socket.io/' || path === '/socket.io') return '/socket.io/'
  if (path === '/engine.io/' || path === '/engine.io') return '/engine.io/'
  return null
}

/** Which session a request of Engine.IO belongs to, as engine.io reads it: of several the last one. null: it is to be a new one. */
export function engineSid(query: string): string | null {
  return new URLSearchParams(query).getAll('sid').at(-1) || null
}
