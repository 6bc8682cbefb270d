import { nginxProgram } from '../../measure/machine.ts'
import { firstMessage, startNodeScript } from '../../processes.ts'
import { messageOf, type Remarks } from '../../report/remarks.ts'
import { runNginx } from '../nginx.ts'
import { coalesced, evenkeel } from './evenkeel.ts'
import type { StreamPeer } from './peer.ts'

export const completionsPath = '/v1/chat/completions'

/** A peer that cannot start is left out, with the reason: the others are still worth measuring. */
export async function startStreamPeers(remarks: Remarks): Promise<StreamPeer[]> {
  const peers: StreamPeer[] = []
  const starts = { direct, 'http-proxy': httpProxy, nginx, evenkeel, 'evenkeel, coalesced': coalesced }
  for (const [name, start] of Object.entries(starts)) {
    try {
      const peer = await start()
      if (peer !== null) peers.push(peer)
      else
        remarks.notes.push(`${name} is not installed, so it is left out; to have it: apt-get install ${name}`)
    } catch (error) {
      remarks.failures.push(`${name} could not be started: ${messageOf(error)}`)
    }
  }
  return peers
}

export async function startTokenServer() {
  const child = startNodeScript('llm-server', new URL('../../apps/llm-server.ts', import.meta.url))
  const { port } = await firstMessage<{ port: number }>(child)
  return { child, port }
}

/** Clients straight at the server: what the server costs by itself. */
async function direct(): Promise<StreamPeer> {
  const { child, port } = await startTokenServer()
  return { name: 'direct', port, path: completionsPath, gateway: [], server: [child.pid], children: [child] }
}

async function httpProxy(): Promise<StreamPeer> {
  const server = await startTokenServer()
  const script = new URL('../../apps/http-proxy.ts', import.meta.url)
  const child = startNodeScript('http-proxy', script, [String(server.port)])
  const { port } = await firstMessage<{ port: number }>(child)
  return {
    name: 'http-proxy',
    port,
    path: completionsPath,
    gateway: [child.pid],
    server: [server.child.pid],
    children: [child, server.child],
  }
}

async function nginx(): Promise<StreamPeer | null> {
  const program = nginxProgram()
  if (program === null) return null
  const server = await startTokenServer()
  const { port, master, workers } = await runNginx(program, {
    workers: 1,
    server: `
    location / {
      proxy_pass http://127.0.0.1:${server.port};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 1h;
    }`,
  })
  return {
    name: 'nginx',
    port,
    path: completionsPath,
    gateway: workers,
    server: [server.child.pid],
    children: [master, server.child],
  }
}
