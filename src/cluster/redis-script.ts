import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

/** One atomic step at a Redis server. */
export interface RedisScript {
  readonly lua: string
  readonly sha1: string
}

/** Reads `lua/<name>.lua` beside this file; the build copies the folder. Throws when the file is missing. */
export function loadScript(name: string): RedisScript {
  const source = readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8')
  // Comments are for those who read the file; some scripts travel with every call.
  const lua = source.replace(/^ *--.*\n/gm, '')
  return { lua, sha1: createHash('sha1').update(lua).digest('hex') }
}
