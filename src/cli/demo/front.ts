import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

/** One address for all gateways of the demo, as a load balancer in front of them: each connection goes to the next one that is up. */
export class Front {
  readonly port: number
  private readonly server: Server
  private readonly targets: () => readonly number[]
  private readonly sockets = new Set<Socket>()
  private next = 0

  private constructor(server: Server, targets: () => readonly number[]) {
    this.server = server
    this.port = (server.address() as AddressInfo).port
    this.targets = targets
    server.on('connection', (client) => this.connected(client))
  }

  /** `targets`: the ports of the gateways that are up, on `host`. Throws what `listen` throws. */
  static async listen(host: string, port: number, targets: () => readonly number[]): Promise<Front> {
    const server = createServer({ noDelay: true })
    server.listen({ host, port })
    await once(server, 'listening')
    return new Front(server, targets)
  }

  close(): void {
    this.server.close()
    for (const socket of this.sockets) socket.destroy()
  }

  private connected(client: Socket, tries = 0): void {
    const targets = this.targets()
    if (tries > targets.length || targets.length === 0) {
      client.destroy()
      return
    }
    this.sockets.add(client)
    client.on('error', () => {})
    client.once('close', () => this.sockets.delete(client))
    const peer = connect({ host: '127.0.0.1', port: targets[this.next++ % targets.length]!, noDelay: true })
    let isConnected = false
    peer.once('connect', () => {
      isConnected = true
      client.pipe(peer).pipe(client)
    })
    peer.on('error', () => {
      // One that has just died: another one may do.
      if (!isConnected && !client.destroyed) this.connected(client, tries + 1)
    })
    peer.once('close', () => {
      if (isConnected) client.destroy()
    })
    client.once('close', () => peer.destroy())
  }
}
