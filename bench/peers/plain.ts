import { type Child, firstMessage, startNodeScript } from '../processes.ts'
import { type Application, engineIoPath, type Peer } from './peer.ts'

export interface PlainApplication {
  child: Child
  port: number
}

export async function startPlainApplication(kind: Application = 'plain'): Promise<PlainApplication> {
  const script = kind === 'plain' ? 'plain-ws' : 'socketio-echo'
  const child = startNodeScript(script, new URL(`../apps/${script}.ts`, import.meta.url))
  const { port } = await firstMessage<{ port: number }>(child)
  return { child, port }
}

/** Clients straight at the application: what the application costs by itself. */
export async function startDirect(kind: Application = 'plain'): Promise<Peer> {
  const application = await startPlainApplication(kind)
  return {
    name: 'direct',
    port: application.port,
    path: kind === 'plain' ? '/' : engineIoPath,
    gateway: [],
    node: [application.child.pid],
    children: [application.child],
  }
}

export async function startWsProxy(): Promise<Peer> {
  const application = await startPlainApplication()
  const script = new URL('../apps/ws-proxy.ts', import.meta.url)
  const proxy = startNodeScript('ws-proxy', script, [String(application.port)])
  const { port } = await firstMessage<{ port: number }>(proxy)
  return {
    name: 'ws-proxy',
    port,
    path: '/',
    gateway: [proxy.pid],
    node: [application.child.pid],
    children: [proxy, application.child],
  }
}
