import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { onTestFinished } from 'vitest'

/** An HTTP server that can be killed and come back at the same port, and knows what reached it. */
export class UpstreamServer {
  port = 0
  /** Connections that were ever accepted. */
  connections = 0
  requests: string[] = []
  /** Default: 200 to everything. */
  answer: RequestListener = (_request, response) => response.end('ok')
  private readonly open = new Set<Socket>()
  private server: Server | null = null

  /** It ends with the test. */
  static async start(answer?: RequestListener): Promise<UpstreamServer> {
    const upstream = new UpstreamServer()
    if (answer !== undefined) upstream.answer = answer
    await upstream.restart()
    onTestFinished(() => upstream.kill())
    return upstream
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  get id(): string {
    return `127.0.0.1:${this.port}`
  }

  /** Sockets that are open now. */
  get openSockets(): number {
    return this.open.size
  }

  async restart(): Promise<void> {
    const server = createServer((request, response) => {
      this.requests.push(`${request.method} ${request.url} ${request.headers.host}`)
      this.answer(request, response)
    })
    server.on('connection', (socket) => {
      this.connections++
      this.open.add(socket)
      socket.on('close', () => this.open.delete(socket))
    })
    server.listen(this.port, '127.0.0.1')
    await once(server, 'listening')
    this.port = (server.address() as AddressInfo).port
    this.server = server
  }

  /** As after SIGKILL: connections are reset, new ones refused. */
  async kill(): Promise<void> {
    const { server } = this
    this.server = null
    if (server === null) return
    const closed = once(server, 'close')
    server.close()
    for (const socket of this.open) socket.resetAndDestroy()
    await closed
  }
}
