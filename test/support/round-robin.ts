import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

/** Gives each TCP connection to the next target that listens, as a balancer without sticky sessions does; it ends with the test. */
export class RoundRobin {
  readonly port: number
  /** Connections to each target so far. */
  readonly counts: number[]
  private readonly targets: readonly number[]
  private readonly sockets = new Set<Socket>()
  private next = 0

  private constructor(port: number, targets: readonly number[]) {
    this.port = port
    this.targets = targets
    this.counts = targets.map(() => 0)
  }

  static async listen(targets: readonly number[]): Promise<RoundRobin> {
    const server = createServer((client) => balancer.connected(client))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const balancer = new RoundRobin((server.address() as AddressInfo).port, targets)
    onTestFinished(() => {
      server.close()
      balancer.cut()
    })
    return balancer
  }

  get wsUrl(): string {
    return `ws://127.0.0.1:${this.port}/ws`
  }

  get httpUrl(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** As when the network is gone. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy()
  }

  private connected(client: Socket, refused = 0): void {
    this.sockets.add(client)
    client.once('close', () => this.sockets.delete(client))
    client.on('error', () => {})
    const index = this.next++ % this.targets.length
    const peer = connect(this.targets[index]!, '127.0.0.1')
    peer.once('connect', () => {
      this.counts[index]!++
      client.pipe(peer).pipe(client)
      client.on('close', () => peer.destroy())
      peer.on('close', () => client.destroy())
    })
    peer.once('error', () => {
      if (peer.connecting || peer.bytesRead > 0 || refused >= this.targets.length) client.destroy()
      else this.connected(client, refused + 1)
    })
  }
}
