import { onTestFinished } from 'vitest'
import { MemoryCluster } from '../../src/cluster/memory.ts'
import type { SharedUpstreams } from '../../src/cluster/upstreams.ts'
import { probeUpstream } from '../../src/edge/upstream/probe.ts'
import { Directory, type DirectoryOptions } from '../../src/gateway/directory.ts'
import type { UpstreamChange, UpstreamPool } from '../../src/gateway/upstream-directory.ts'
import type { EvenkeelError } from '../../src/protocol/errors.ts'
import { Recorder } from './recorder.ts'

/** Probes that follow each other quickly; their ratio is that of the defaults. */
export const quickProbe = { path: null, intervalMs: 100, timeoutMs: 2_000, failures: 3 }

export function pool(name: string, change: Partial<UpstreamPool> = {}): UpstreamPool {
  return { name, upstreams: [], dns: null, probe: quickProbe, allowedAddresses: null, ...change }
}

export interface TestDirectory {
  directory: Directory
  changes: Recorder<UpstreamChange>
  problems: Recorder<EvenkeelError>
  /** What changed, as `healthy 127.0.0.1:3000`. */
  lines(): string[]
  /** Resolves when the upstream is as wanted. */
  untilHealthy(id: string, healthy?: boolean): Promise<void>
}

/** A directory that starts now and closes with the test. */
export function startDirectory(
  pools: UpstreamPool[],
  options: Partial<DirectoryOptions> & { shared?: SharedUpstreams } = {},
): TestDirectory {
  const problems = new Recorder<EvenkeelError>()
  const changes = new Recorder<UpstreamChange>()
  const { shared = memoryShared(), ...rest } = options
  const directory = new Directory({ pools, shared, probe: probeUpstream, onProblem: problems.add, ...rest })
  directory.onChange(changes.add)
  directory.start()
  onTestFinished(() => directory.close())
  return {
    directory,
    changes,
    problems,
    lines: () => changes.items.map(({ type, upstream }) => `${type} ${upstream.id}`),
    untilHealthy: (id, healthy = true) => changes.until(() => directory.get(id)?.healthy === healthy),
  }
}

export function memoryShared(
  cluster = new MemoryCluster({ limits: { leaseRefreshMs: 100 } }),
): SharedUpstreams {
  const member = cluster.join()
  onTestFinished(() => member.close())
  return member.upstreams
}
