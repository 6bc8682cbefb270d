/**
 * Two servers that know nothing of Evenkeel, behind it by their URLs alone. One process runs it all: the servers, a gateway, and clients that
 * stay connected while one server is drained and the other one dies.
 *
 *   npm run example:upstream
 */
import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket, WebSocketServer } from 'ws'
import { loadConfig } from '../src/cli/config.ts'
import { createLogger } from '../src/cli/logger.ts'
import { startGateway } from '../src/cli/start-gateway.ts'

/** News that both servers have, as they would have them from a database: numbered, so that a reader can go on at any of them. */
const news: string[] = []
const readers = new Set<ServerResponse>()

function publish(text: string): void {
  news.push(text)
  for (const reader of readers) reader.write(newsEvent(news.length))
}

function newsEvent(id: number): string {
  return `id: ${id}\ndata: ${news[id - 1]}\n\n`
}

/** The application: HTTP, a stream of events and a WebSocket, and not a line for Evenkeel. */
async function startServer(name: string): Promise<{ server: Server; url: string; kill(): void }> {
  const server = createServer((request, response) => {
    if (request.url !== '/app/news') {
      response.end(`${name} greets you\n`)
      return
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
    for (let id = Number(request.headers['last-event-id'] ?? 0) + 1; id <= news.length; id++)
      response.write(newsEvent(id))
    readers.add(response)
    response.on('close', () => readers.delete(response))
  })
  const wss = new WebSocketServer({ server })
  wss.on('connection', (ws) => ws.on('message', (data) => ws.send(`${name} has heard: ${data}`)))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const kill = () => {
    for (const ws of wss.clients) ws.terminate()
    server.closeAllConnections()
    server.close()
  }
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, kill }
}

const servers = [await startServer('server-1'), await startServer('server-2')]
const free = { host: '127.0.0.1', port: 0 }
const { config } = await loadConfig({
  env: {
    // In a file: pools: { app: { upstreams: [http://127.0.0.1:3000, …], migrate: redial } }
    EVENKEEL_POOLS: JSON.stringify({
      app: {
        upstreams: servers.map(({ url }, i) => ({ url, id: `server-${i + 1}` })),
        migrate: 'redial',
        probe: { intervalMs: 100 },
      },
    }),
    EVENKEEL_ROUTES: JSON.stringify([{ path: '/app/*', pool: 'app' }]),
  },
})
const gateway = await startGateway(
  { ...config, public: free, internal: free, rebalance: { ...config.rebalance, enabled: false } },
  { nodeToken: null, adminToken: null },
  createLogger('error'),
)
const { operator, publicPort } = gateway
while (operator.nodes().some(({ state }) => state !== 'active')) await sleep(20)

console.log(`GET /app/: ${(await (await fetch(`http://127.0.0.1:${publicPort}/app/`)).text()).trim()}`)

const ada = new WebSocket(`ws://127.0.0.1:${publicPort}/app/chat`)
ada.on('close', (code) => console.log(`ada is closed with ${code}`))
await once(ada, 'open')
async function say(text: string): Promise<void> {
  ada.send(text)
  console.log(`  ada hears: ${(await once(ada, 'message'))[0]}`)
}

const reading = new AbortController()
const stream = await fetch(`http://127.0.0.1:${publicPort}/app/news`, { signal: reading.signal })
const heard: string[] = []
const reader = (async () => {
  for await (const chunk of stream.body!)
    heard.push(...(String(Buffer.from(chunk)).match(/(?<=data: ).*/g) ?? []))
})().catch(() => {})

async function drain(id: string): Promise<void> {
  console.log(`${id} is drained …`)
  const operation = operator.drain(id)
  while (operator.operation(operation.id).state === 'running') await sleep(20)
}

const adasServer = () =>
  operator.sessions().sessions.find(({ transport }) => transport === 'websocket')!.node!

publish('one')
await say('is anybody there?')
const first = adasServer()
await drain(first)
publish('two')
await say('still connected')
const second = adasServer()
operator.activate(first)
console.log(`${second} dies …`)
servers[Number(second.at(-1)) - 1]!.kill()
publish('three')
while (adasServer() !== first || operator.sessions({ node: first }).sessions.length < 2) await sleep(20)
await say('and still')
while (heard.length < 3) await sleep(20)
console.log(`  the stream of news: ${heard.join(', ')}`)

ada.removeAllListeners('close')
ada.close(1000)
await once(ada, 'close')
reading.abort()
await reader
await gateway.close()
for (const { kill } of servers) kill()
