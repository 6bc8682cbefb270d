import { readFileSync } from 'node:fs'
import path from 'node:path'

/** What docs/redis.md tells operators to grant to the user of gateways and nodes. */
export function documentedGrants(): string[] {
  const text = readFileSync(path.resolve(import.meta.dirname, '../../docs/redis.md'), 'utf8')
  const [, grants] = /^ACL SETUSER evenkeel on >password ((?:.*\\\n)*.*)$/m.exec(text)!
  return grants!.split(/[\s\\]+/)
}
