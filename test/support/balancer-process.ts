/** A TCP balancer: new connections go round robin over the targets that accept. It looks into nothing and retries nothing. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { answerCalls } from './resumable-calls.ts'

/** Connections of clients, and where they lead to. */
const clients = new Map<Socket, { far: Socket; port: number }>()
let targets: number[] = []
let turn = 0

const server = createServer({ noDelay: true, pauseOnConnect: true }, (near) => void accept(near))

async function accept(near: Socket): Promise<void> {
  near.on('error', () => {})
  const first = turn++
  const ports = targets.map((_, i) => targets[(first + i) % targets.length]!)
  for (const port of ports) {
    const far = await connected(port)
    if (far === null) continue
    join(near, far, port)
    return
  }
  near.resetAndDestroy()
}

/** Null: nobody listens there. */
function connected(port: number): Promise<Socket | null> {
  const far = connect({ port, host: '127.0.0.1', noDelay: true })
  return new Promise((resolve) => {
    far.once('connect', () => resolve(far))
    far.on('error', () => resolve(null))
  })
}

function join(near: Socket, far: Socket, port: number): void {
  if (near.destroyed) {
    far.destroy()
    return
  }
  clients.set(near, { far, port })
  near.on('close', () => clients.delete(near))
  for (const [from, to] of [
    [near, far],
    [far, near],
  ] as const) {
    from.pipe(to)
    from.on('close', (failed) => {
      if (failed) to.destroy()
    })
  }
}

const actions = {
  async listen(): Promise<number> {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  },
  setTargets(ports: number[]): void {
    targets = ports
  },
  /** Resets the clients whose connections lead there. The other end is told nothing. */
  cut(port: number): number {
    const cut = [...clients].filter(([, target]) => target.port === port)
    for (const [near, { far }] of cut) {
      near.removeAllListeners('close')
      far.unpipe(near).resume()
      clients.delete(near)
      near.unpipe().resetAndDestroy()
    }
    return cut.length
  },
}

export type BalancerActions = typeof actions

answerCalls(actions)
