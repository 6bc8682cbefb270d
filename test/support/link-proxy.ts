import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

/** A wire between a node and its gateway that can be held and cut. */
export class LinkProxy {
  readonly url: string
  private readonly server: Server
  private readonly sockets = new Set<Socket>()
  private frozen = false

  private constructor(server: Server) {
    this.server = server
    this.url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
  }

  static async to(port: number): Promise<LinkProxy> {
    const server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const proxy = new LinkProxy(server)
    server.on('connection', (near) => proxy.join(near, connect(port, '127.0.0.1')))
    return proxy
  }

  /** Nothing passes any more, either way, and nobody is told. */
  freeze(): void {
    this.frozen = true
    for (const socket of this.sockets) socket.pause()
  }

  thaw(): void {
    this.frozen = false
    for (const socket of this.sockets) socket.resume()
  }

  /** Resets the connection and takes no other. */
  cut(): void {
    this.server.close()
    for (const socket of this.sockets) socket.resetAndDestroy()
  }

  private join(near: Socket, far: Socket): void {
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.sockets.add(from)
      from.setNoDelay(true)
      from.on('data', (chunk) => to.write(chunk))
      from.on('end', () => to.end())
      from.on('error', () => {})
      from.on('close', () => {
        this.sockets.delete(from)
        to.destroy()
      })
      if (this.frozen) from.pause()
    }
  }
}
