import { setTimeout as delay } from 'node:timers/promises'
import type { Server } from 'socket.io'
import type { TestGateway } from './in-process.ts'
import type { Random } from './random.ts'
import { connectClient, type TestClient, until } from './socket-io.ts'

/**
 * An application whose every word is numbered, and clients that keep account of them: what was lost, doubled or came in another order
 * is seen at the end.
 */
export function ledgerApp(io: Server, id: string): void {
  io.on('connection', async (socket) => {
    // What the client says meanwhile must wait, or it is lost.
    if (socket.recovered) await delay(2)
    else {
      socket.data.heard = 0
      socket.data.said = 0
      void socket.join('all')
    }
    socket.on('say', (n: number, blob: Buffer, answer: (n: number, size: number, node: string) => void) => {
      socket.data.misheard ??= n === socket.data.heard + 1 ? undefined : `${n} after ${socket.data.heard}`
      socket.data.heard = n
      answer(n, blob.length, id)
    })
    socket.on('slow', (n: number, ms: number, answer: (n: number) => void) => {
      setTimeout(() => {
        socket.emit('late', n)
        answer(n)
      }, ms)
    })
    socket.on('ask me', (ms: number) => {
      const n = ++socket.data.said
      socket.emit('question', n, ms, Buffer.from([n]), (answer: number) => {
        answers.push([socket.id, n, answer])
      })
    })
    socket.on('account', (answer) =>
      answer({ ...socket.data, rooms: [...socket.rooms], id: socket.id, node: id }),
    )
  })
}

/** What clients have answered to the nodes of this process. */
export const answers: [id: string, asked: number, answered: number][] = []

export class LedgerClient {
  readonly socket: TestClient
  readonly broadcasts: number[] = []
  readonly questions: number[] = []
  readonly lates: number[] = []
  readonly acks: number[] = []
  readonly nodes = new Set<string>()
  said = 0
  asked = 0
  slow = 0

  private constructor(socket: TestClient) {
    this.socket = socket
    socket.on('numbered', (n: number) => this.broadcasts.push(n))
    socket.on('late', (n: number) => this.lates.push(n))
    socket.on('question', (n: number, ms: number, blob: Buffer, answer: (n: number) => void) => {
      this.questions.push(n)
      setTimeout(() => answer(n + blob[0]!), ms)
    })
  }

  static async connect(gateway: TestGateway, transports: string[]): Promise<LedgerClient> {
    return new LedgerClient(await connectClient(gateway, { transports }))
  }

  talk(random: Random): void {
    const what = random.int(1, 10)
    if (what <= 6) {
      const n = ++this.said
      const blob = Buffer.alloc(random.int(0, 200))
      this.socket.emit('say', n, blob, (answer: number, size: number, node: string) => {
        this.nodes.add(node)
        this.acks.push(size === blob.length ? answer : Number.NaN)
      })
    } else if (what <= 8) {
      this.asked++
      this.socket.emit('ask me', random.int(0, 30))
    } else {
      const n = ++this.slow
      this.socket.emit('slow', n, random.int(1, 40), (answer: number) => this.acks.push(-answer))
    }
  }

  async settled(broadcasts: number): Promise<void> {
    const { socket } = this
    await until(
      () =>
        this.acks.length === this.said + this.slow &&
        this.lates.length === this.slow &&
        this.questions.length === this.asked &&
        this.broadcasts.length === broadcasts &&
        answers.filter(([id]) => id === socket.id).length === this.asked,
    ).catch(() => {})
  }

  /** What is wrong; empty when all is well. */
  async complaints(broadcasts: number): Promise<string[]> {
    const account = await this.socket.timeout(5_000).emitWithAck('account')
    const counted = (name: string, got: number[], count: number) => {
      const isExact = got.length === count && got.every((n, i) => n === i + 1)
      return isExact ? [] : [`${name}: ${count} expected, got ${got.length}: ${got.slice(0, 40)}`]
    }
    const said = this.acks.filter((n) => n > 0)
    const slow = this.acks.filter((n) => !(n > 0)).map((n) => -n)
    const mine = answers.filter(([id]) => id === this.socket.id)
    return [
      ...counted('broadcasts', this.broadcasts, broadcasts),
      ...counted('answers of the server', said, this.said),
      ...counted('late answers', [...slow].sort(ascending), this.slow),
      ...counted('late events', [...this.lates].sort(ascending), this.slow),
      ...counted('questions', this.questions, this.asked),
      ...counted(
        'answers of the client',
        mine
          .map(([, asked, answered]) =>
            answered === 2 * (asked % 256) || answered === asked + (asked % 256) ? asked : Number.NaN,
          )
          .sort(ascending),
        this.asked,
      ),
      ...(account.heard === this.said ? [] : [`socket.data.heard is ${account.heard}, said ${this.said}`]),
      ...(account.misheard === undefined || account.misheard === null
        ? []
        : [`out of order: ${account.misheard}`]),
      ...(account.id === this.socket.id ? [] : ['another id']),
      ...(this.socket.idsSeen.length === 1 ? [] : [`ids: ${this.socket.idsSeen}`]),
      ...this.socket.losses.map((reason) => `disconnected: ${reason}`),
      ...(account.rooms.includes('all') ? [] : [`rooms: ${account.rooms}`]),
    ]
  }
}

function ascending(a: number, b: number): number {
  return a - b
}
