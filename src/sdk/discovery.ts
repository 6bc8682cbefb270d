import { joinRedis } from '../cluster/redis.ts'

export interface DiscoveryOptions {
  redis: string
  node: { id: string; pool: string; instance: string }
  /** A gateway is there, or there again; may be said twice. */
  joined(url: string): void
  left(url: string): void
  warn(message: string): void
}

export interface Discovery {
  close(): Promise<void>
}

/** Announces the node in the cluster's registry and follows its gateways. Throws CONFLICT when the id is live from another process. */
export async function discoverGateways({
  redis,
  node,
  joined,
  left,
  warn,
}: DiscoveryOptions): Promise<Discovery> {
  const cluster = await joinRedis({ url: redis, onProblem: (problem) => warn(problem.message) })
  try {
    await cluster.registry.announce({ kind: 'node', ...node })
  } catch (error) {
    await cluster.close()
    throw error
  }
  // A gateway that was killed is said to be gone when its lease ends; another one may be at its address by then.
  const isThere = (url: string) =>
    cluster.registry.entries().some((entry) => entry.kind === 'gateway' && entry.internalUrl === url)
  cluster.registry.watch((changes) => {
    for (const { type, entry } of changes) {
      if (entry.kind !== 'gateway') continue
      const { internalUrl } = entry
      if (type !== 'left') joined(internalUrl)
      else if (!isThere(internalUrl)) left(internalUrl)
    }
  })
  return {
    async close() {
      await cluster.registry.withdraw()
      await cluster.close()
    },
  }
}
