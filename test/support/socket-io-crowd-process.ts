/** Unmodified Socket.IO clients in a process of their own: half of them poll, the others begin so and go on by WebSocket. */
import { setTimeout as pause } from 'node:timers/promises'
import { io } from 'socket.io-client'
import { createRandom, type Random } from './random.ts'
import { answerCalls } from './resumable-calls.ts'
import { type Epoch, LedgerClient } from './socket-io-ledger.ts'
import { until } from './until.ts'

export interface SocketIoCrowdOptions {
  url: string
  clients: number
  /** Of all clients together. */
  eventsPerSecond: number
  seed: number
}

const tickMs = 20
const stillMs = 3_000
const accountMs = 30_000
const looks = new Set<() => void>()
const changed = () => {
  for (const look of [...looks]) look()
}

let clients: LedgerClient[] = []
let random: Random
let eventsPerSecond = 0
let timer: NodeJS.Timeout | null = null

function isPresent(client: LedgerClient, transport?: string): boolean {
  const engine = client.socket.io.engine as unknown as { transport: { name: string } } | undefined
  return client.present !== null && (transport === undefined || engine?.transport.name === transport)
}

/** Until nothing is missing, or nothing more comes. */
async function untilStill(missing: () => number): Promise<void> {
  for (let before = Number.POSITIVE_INFINITY; ; ) {
    const end = performance.now() + stillMs
    while (missing() > 0 && performance.now() < end) await pause(20)
    const now = missing()
    if (now === 0 || now === before) return
    before = now
  }
}

const actions = {
  async connect(options: SocketIoCrowdOptions): Promise<void> {
    random = createRandom(options.seed)
    eventsPerSecond = options.eventsPerSecond
    clients = Array.from({ length: options.clients }, (_, i) => {
      const transports = i % 2 === 0 ? ['polling'] : ['polling', 'websocket']
      const socket = io(options.url, {
        transports,
        forceNew: true,
        reconnectionDelay: 100,
        reconnectionDelayMax: 500,
      })
      return new LedgerClient(socket, changed)
    })
    await until(() => clients.every((client) => isPresent(client)), looks, { timeoutMs: 60_000 })
    // An upgrade is no event of the client's socket.
    while (!clients.every((client, i) => i % 2 === 0 || isPresent(client, 'websocket'))) await pause(10)
  },
  talk(): void {
    let due = 0
    let last = performance.now()
    timer ??= setInterval(() => {
      const now = performance.now()
      // After a stall there is no burst to make up for it.
      due += (Math.min(now - last, 5 * tickMs) * eventsPerSecond) / 1000
      last = now
      for (; due >= 1; due--) random.pick(clients).talk(random)
    }, tickMs)
  },
  /** Everyone is connected and is answered. */
  async fence(timeoutMs: number): Promise<void> {
    const isAnswered = async (client: LedgerClient) => {
      for (const end = performance.now() + timeoutMs; performance.now() < end; ) {
        await until(() => client.present !== null, looks, { timeoutMs })
        const { id } = client.present!
        try {
          await client.takeAccount(Math.min(5_000, timeoutMs))
          if (client.present?.id === id) return
        } catch {
          // It may have been lost meanwhile.
        }
      }
      throw new Error(`${client.present?.id} is not answered`)
    }
    await Promise.all(clients.map(isAnswered))
  },
  /** Says no more, and waits until nothing is missing or nothing comes. */
  async settle(): Promise<void> {
    if (timer !== null) clearInterval(timer)
    timer = null
    await untilStill(() => clients.reduce((sum, { missing }) => sum + missing, 0))
    await Promise.all(clients.map((client) => client.takeAccount(accountMs).catch(() => {})))
  },
  /** Until everyone has the last of these broadcasts, or nothing more comes. */
  async heard(last: Record<string, number>): Promise<void> {
    const missing = (client: LedgerClient) =>
      Object.entries(last).reduce((sum, [node, n]) => sum + n - (client.present?.casts[node]?.at(-1) ?? 0), 0)
    await untilStill(() => clients.reduce((sum, client) => sum + missing(client), 0))
  },
  sent: () =>
    clients.reduce((sum, { epochs }) => sum + epochs.reduce((n, { sent }) => n + sent.length, 0), 0),
  epochs: (): Epoch[][] => clients.map(({ epochs }) => epochs),
}

export type SocketIoCrowdActions = typeof actions

answerCalls(actions)
