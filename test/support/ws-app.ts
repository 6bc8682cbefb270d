import { type AttachOptions, attachWebSocketServer, type SessionRequest } from 'evenkeel/ws'
import { onTestFinished } from 'vitest'
import { type ServerOptions, type WebSocket, WebSocketServer } from 'ws'
import type { TestGateway } from './in-process.ts'

export const quiet = { info() {}, warn() {}, error() {} }

export type ConnectionHandler = (ws: WebSocket, request: SessionRequest) => void

/** A plain `ws` application, attached to the gateway as a node; it ends with the test. */
export async function startWsApp(
  gateway: Pick<TestGateway, 'linkUrl'>,
  connection: ConnectionHandler,
  { server = {}, ...options }: Partial<AttachOptions> & { server?: ServerOptions } = {},
) {
  const wss = new WebSocketServer({ noServer: true, ...server })
  wss.on('connection', (ws, request) => connection(ws, request as SessionRequest))
  const attached = attachWebSocketServer(wss, {
    id: 'a',
    gateways: [gateway.linkUrl],
    drainOnSigterm: false,
    logger: quiet,
    ...options,
  })
  const node = await attached
  onTestFinished(() => node.stop())
  return { wss, node }
}
