/** Where Engine.IO is spoken, for clients and between gateways. */
export type EnginePath = '/socket.io/' | '/engine.io/'

/** The path of a request as clients of Engine.IO write it; null: not one of theirs. */
export function enginePath(path: string): EnginePath | null {
  if (path === '/socket.io/' || path === '/socket.io') return '/socket.io/'
  if (path === '/engine.io/' || path === '/engine.io') return '/engine.io/'
  return null
}
