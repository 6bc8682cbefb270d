import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { loadConfig } from '../../src/cli/config.ts'
import { createLogger } from '../../src/cli/logger.ts'
import { startGateway } from '../../src/cli/start-gateway.ts'
import type { RunBatch } from '../../src/gateway/run-types.ts'
import type { Runs } from '../../src/gateway/runs.ts'
import { EvenkeelError, statusOf } from '../../src/protocol/errors.ts'

/** A gateway with the plainest edge for runs that there can be: lines of JSON over HTTP. Arguments: id, configuration file, Redis or ''. */
const [id = 'g', file = '', redis = ''] = process.argv.slice(2)
const loaded = await loadConfig({
  file,
  env: { EVENKEEL_GATEWAY_ID: id },
  flags: {
    '--host': { path: ['public', 'host'], value: '127.0.0.1' },
    '--port': { path: ['public', 'port'], value: 0 },
    '--internal-port': { path: ['internal', 'port'], value: 0 },
    ...(redis === '' ? {} : { '--redis': { path: ['redis'], value: redis } }),
  },
})
const gateway = await startGateway(loaded.config, loaded.tokens, createLogger('silent'))
const runs = gateway.runs as Runs

const server = createServer((request, response) => {
  handle(request, response).catch((error: unknown) => {
    const status = error instanceof EvenkeelError ? statusOf(error) : 500
    if (response.headersSent) throw error
    response.writeHead(status)
    response.end(String((error as Error)?.stack))
  })
})
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo
  const { internalPort } = gateway
  process.send?.({ port, internalPort })
})

async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(request.url!, 'http://gateway')
  const run = searchParams.get('run') ?? ''
  if (pathname === '/start') response.end(JSON.stringify(await runs.start(JSON.parse(await bodyOf(request)))))
  else if (pathname === '/cancel') response.end(JSON.stringify(await runs.cancel(run)))
  else if (pathname === '/read') await read(run, searchParams.get('after'), response)
  else response.end(JSON.stringify({ owned: runs.owned.size, live: runs.live.size, counters: runs.counters }))
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = ''
  for await (const chunk of request) body += String(chunk)
  return body
}

async function read(run: string, after: string | null, response: ServerResponse): Promise<void> {
  const { socket } = response
  if (socket === null) return
  const opened = await runs.openReader(run, after, {
    write(batch) {
      response.write(batch.encoded('lines', lines))
      return response.writableLength + socket.writableLength < 64 * 1024
    },
    heartbeat: () => void response.write('\n'),
    close(reason) {
      if (reason === 'ended') response.end()
      else socket.destroy()
    },
  })
  if (opened.verdict === 'over') response.writeHead(204).end()
  else if (opened.verdict === 'gap') response.writeHead(410).end(opened.oldest)
  else {
    const { reader } = opened
    socket.on('drain', () => reader.drained())
    response.on('drain', () => reader.drained())
    response.on('close', () => reader.close())
    if (socket.destroyed) reader.close()
  }
}

function lines({ events }: RunBatch): Buffer {
  return Buffer.from(events.map((placed) => `${JSON.stringify(placed)}\n`).join(''))
}
