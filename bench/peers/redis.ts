import { acceptsConnections, freePort } from '../ports.ts'
import { type Child, scratchDirectory, startChild, waitUntilReady } from '../processes.ts'

export interface RunningRedis {
  child: Child
  url: string
}

export async function startRedis(): Promise<RunningRedis> {
  const port = await freePort()
  const address = ['--bind', '127.0.0.1', '--port', String(port)]
  const args = [...address, '--save', '', '--appendonly', 'no', '--dir', scratchDirectory()]
  const child = startChild({ name: 'redis', program: 'redis-server', args })
  await waitUntilReady(child, () => acceptsConnections(port))
  return { child, url: `redis://127.0.0.1:${port}` }
}
