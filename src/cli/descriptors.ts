import { readFileSync } from 'node:fs'

/** Beside those of clients: links, Redis, files. */
const reserved = 256

/** File descriptors that this process may open; null: the system does not say. Node.js raises the soft limit to the hard one at its start. */
export function descriptorLimit(): number | null {
  try {
    return parseDescriptorLimit(readFileSync('/proc/self/limits', 'utf8'))
  } catch {
    return null
  }
}

export function parseDescriptorLimit(limits: string): number | null {
  const [, soft] = /^Max open files\s+(\S+)/m.exec(limits) ?? []
  if (soft === undefined) return null
  return soft === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(soft)
}

/**
 * Why the connections that are configured are more than can be open; null: they are not. `each`: descriptors of one client, two where
 * each has a connection to an upstream.
 */
export function descriptorComplaint(limit: number, connections: number, each: 1 | 2): string | null {
  const needed = connections * each + reserved
  if (limit >= needed) return null
  return (
    `rateLimits.gateway.connections is ${connections}, which takes about ${needed} file descriptors, and this process may open ${limit}: ` +
    'raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd, ulimits of a container), or lower the setting'
  )
}
