/**
 * A chat in plain `ws`, made a node by one line. One process runs it all: a gateway, this application twice, and a client that
 * stays connected while the application it talks to is drained.
 *
 *   npm run example:ws-chat
 *
 * With --gateway it is one node of a gateway that runs already, for clients of yours:
 *
 *   npm run example:ws-chat -- --id chat-1 --gateway ws://127.0.0.1:8081
 */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { attachWebSocketServer, type SessionRequest } from 'evenkeel/ws'
import { WebSocket, WebSocketServer } from 'ws'
import { loadConfig } from '../src/cli/config.ts'
import { createLogger } from '../src/cli/logger.ts'
import { startGateway } from '../src/cli/start-gateway.ts'

const { values } = parseArgs({
  options: { id: { type: 'string', default: `chat-${process.pid}` }, gateway: { type: 'string' } },
})

/** The application: what follows would be the same without Evenkeel, but for the lines that say so. */
function chat(name: string): WebSocketServer {
  const wss = new WebSocketServer({ noServer: true })
  wss.on('connection', (ws: WebSocket, request) => {
    const { session } = request as SessionRequest
    const nick = new URL(request.url!, 'ws://chat').searchParams.get('nick') ?? 'somebody'
    let said = 0
    said = (session.state as number | undefined) ?? 0 // Evenkeel: what the node before has saved
    session.onExport(() => said) // Evenkeel: what the next one gets
    session.join('chat') // Evenkeel: members stay members wherever they are
    if (!session.recovered) ws.send(`welcome, ${nick}`)
    ws.on('message', (data) => {
      if (!published(`${nick} (${++said}, by way of ${name}): ${data}`)) ws.send('nobody can hear you now')
    })
    ws.on('close', (code, reason) => console.log(`[${name}] ${nick} left: ${code} ${reason}`))
  })
  const published = (line: string) => nodes.get(name)?.publish('chat', line) ?? false
  return wss
}

const nodes = new Map<string, Awaited<ReturnType<typeof attachWebSocketServer>>>()

async function attach(name: string, gateway: string): Promise<void> {
  const options = { id: name, gateways: [gateway], drainOnSigterm: values.gateway !== undefined }
  nodes.set(name, await attachWebSocketServer(chat(name), options)) // Evenkeel: the one line
  console.log(`node ${name} serves`)
}

async function demonstrate(): Promise<void> {
  const free = { host: '127.0.0.1', port: 0 }
  const { config } = await loadConfig({ env: {} })
  const tokens = { nodeToken: null, adminToken: null }
  const gateway = await startGateway(
    { ...config, public: free, internal: free },
    tokens,
    createLogger('error'),
  )
  const link = `ws://127.0.0.1:${gateway.internalPort}`
  await attach('chat-1', link)

  const client = new WebSocket(`ws://127.0.0.1:${gateway.publicPort}/ws?nick=ada`)
  client.on('message', (data) => console.log(`  ada hears: ${data}`))
  await once(client, 'message')
  const say = async (text: string) => {
    client.send(text)
    await once(client, 'message')
  }
  await say('is anybody there?')

  await attach('chat-2', link)
  console.log('chat-1 is drained …')
  await nodes.get('chat-1')!.drain()
  await say('still connected, still counting')
  client.close(1000)
  await once(client, 'close')
  await sleep(50)
  await nodes.get('chat-2')!.stop()
  await gateway.close()
}

if (values.gateway === undefined) await demonstrate()
else await attach(values.id, values.gateway)
