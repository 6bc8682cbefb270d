import { once } from 'node:events'
import type { EvenkeelNode, NodeOptions, SessionHandlers } from 'evenkeel/sdk'
import { expect, onTestFinished } from 'vitest'
import { WebSocket } from 'ws'
import type { CanaryOrder, CanaryView } from '../../src/gateway/canary-operator.ts'
import type { Operation } from '../../src/gateway/operator.ts'
import { AdminClient } from './admin-client.ts'
import { echo, startTestNode, type TestGateway } from './in-process.ts'

export type Started = Operation & { canary: CanaryView }

/** A client that numbers what it sends and looks whether it gets every number once, in order. */
export class CountingClient {
  readonly ws: WebSocket
  closedWith: number | null = null
  sent = 0
  received = 0
  faults = 0

  private constructor(url: string) {
    this.ws = new WebSocket(url, { perMessageDeflate: false })
    this.ws.on('message', (data) => {
      this.received++
      if (Number(String(data)) !== this.received) this.faults++
    })
    this.ws.on('close', (code) => {
      this.closedWith = code
    })
    this.ws.on('error', () => {})
  }

  static async connect(url: string): Promise<CountingClient> {
    const client = new CountingClient(url)
    await once(client.ws, 'open')
    return client
  }

  send(): void {
    if (this.closedWith === null) this.ws.send(String(++this.sent))
  }
}

/** Clients of one gateway. They end with the test. */
export async function connectClients(url: string, count: number): Promise<CountingClient[]> {
  const clients: CountingClient[] = []
  onTestFinished(() => {
    for (const { ws } of clients) ws.terminate()
  })
  const atOnce = 50
  while (clients.length < count) {
    const some = Math.min(atOnce, count - clients.length)
    clients.push(...(await Promise.all(Array.from({ length: some }, () => CountingClient.connect(url)))))
  }
  return clients
}

/** Everybody is asked once more and has answers to all, each once and in order. */
export async function expectUnharmed(clients: readonly CountingClient[], timeout = 10_000): Promise<void> {
  for (const client of clients) client.send()
  await expect.poll(() => clients.filter(({ sent, received }) => received < sent).length, { timeout }).toBe(0)
  expect(clients.filter(({ closedWith }) => closedWith !== null)).toEqual([])
  expect(clients.filter(({ faults, sent, received }) => faults > 0 || received !== sent)).toEqual([])
}

/** `a` and `b` of version 1 and, with next to no weight until a canary wants it, `new` of version 2. */
export async function startVersions(
  gateway: Pick<TestGateway, 'linkUrl'>,
  { next = echo, ...options }: Partial<NodeOptions> & { next?: SessionHandlers } = {},
): Promise<{ old: EvenkeelNode[]; next: EvenkeelNode }> {
  const old = [
    await startTestNode(gateway, echo, { id: 'a', version: '1', ...options }),
    await startTestNode(gateway, echo, { id: 'b', version: '1', ...options }),
  ]
  const newest = { id: 'new', version: '2', weight: 0.0001, ...options }
  return { old, next: await startTestNode(gateway, next, newest) }
}

export class CanaryApi {
  readonly admin: AdminClient

  constructor({ internalUrl }: Pick<TestGateway, 'internalUrl'>) {
    this.admin = new AdminClient(internalUrl, undefined)
  }

  start(order: CanaryOrder): Promise<Started> {
    return this.admin.call('POST', '/canaries', order)
  }

  return(id: string): Promise<Started> {
    return this.admin.call('POST', `/canaries/${id}/return`, {})
  }

  promote(id: string, percent?: number): Promise<Started> {
    return this.admin.call('POST', `/canaries/${id}/promote`, percent === undefined ? {} : { percent })
  }

  get(id: string): Promise<CanaryView> {
    return this.admin.call('GET', `/canaries/${id}`)
  }

  list(): Promise<CanaryView[]> {
    return this.admin.call('GET', '/canaries')
  }

  async ended(operation: Operation, timeout = 10_000): Promise<Operation> {
    await expect
      .poll(async () => (await this.admin.operation(operation.id)).state, { timeout })
      .not.toBe('running')
    return this.admin.operation(operation.id)
  }

  async state(id: string, state: CanaryView['state'], timeout = 10_000): Promise<CanaryView> {
    await expect.poll(async () => (await this.get(id)).state, { timeout }).toBe(state)
    return this.get(id)
  }
}
