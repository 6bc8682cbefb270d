import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { acceptsConnections } from '../../ports.ts'
import { scratchDirectory, stopChild, waitUntilReady } from '../../processes.ts'
import { type RunningGateway, startGateway } from '../evenkeel.ts'
import type { StreamPeer } from './peer.ts'
import { completionsPath, startTokenServer } from './start.ts'

export const evenkeel = (): Promise<StreamPeer> => start('evenkeel', 0)
export const coalesced = (): Promise<StreamPeer> => start('evenkeel, coalesced', 20)

async function start(name: StreamPeer['name'], runCoalesceMs: number): Promise<StreamPeer> {
  const server = await startTokenServer()
  try {
    const gateway = await startLlmGateway(server.port, runCoalesceMs)
    return {
      name,
      port: gateway.port,
      path: completionsPath,
      gateway: gateway.pids,
      server: [server.child.pid],
      children: [gateway.child, server.child],
    }
  } catch (error) {
    await stopChild(server.child)
    throw error
  }
}

/** A gateway in front of the token server at this port. */
export async function startLlmGateway(
  serverPort: number,
  runCoalesceMs = 0,
  more: readonly string[] = [],
): Promise<RunningGateway> {
  const upstreams = [`http://127.0.0.1:${serverPort}`]
  const file = path.join(scratchDirectory(), `llm-${runCoalesceMs}.json`)
  await writeFile(
    file,
    JSON.stringify({ pools: { llm: { upstreams } }, limits: runCoalesceMs === 0 ? {} : { runCoalesceMs } }),
  )
  const gateway = await startGateway(['--config', file, ...more])
  await waitUntilReady(gateway.child, () => acceptsConnections(gateway.port))
  return gateway
}
