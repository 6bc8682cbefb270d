import { setTimeout as delay } from 'node:timers/promises'
import type { Server } from 'socket.io'
import type { Socket } from 'socket.io-client'
import type { Random } from './random.ts'
import { machineTime } from './resumable-client.ts'

/** `say` is acknowledged at once, `slow` later; `ask` makes the server ask back; nobody answers `tell`. */
export type Kind = 'say' | 'slow' | 'ask' | 'tell'

/** What a node of `ledgerApp` has done: opened a socket, handled an event, made a broadcast. */
export interface Note {
  node: string
  /** Of an event: the id that the client had when it sent it. Empty for broadcasts. */
  socket: string
  what: 'new' | 'recovered' | 'cast' | Kind
  n: number
  /** On the machine's clock, in microseconds. */
  at: number
}

/** What a client has seen between a `connect` and the next one. */
export interface Epoch {
  /** Of the socket. */
  id: string
  /** It began in the middle of the one before, by a second `connect`: events of that may reach the new socket. */
  anew: boolean
  transport: string
  from: number
  /** Null while it goes on. */
  until: number | null
  /** Why it ended; `connect` when the client was connected anew without having been disconnected. */
  end: string | null
  /** The events of the client, numbered from 1. */
  sent: Kind[]
  /** Acknowledgements of `say`, with how many events the server has counted. */
  said: [n: number, heard: number][]
  /** Acknowledgements of `slow`, and the events that the handlers sent before. */
  slow: number[]
  late: number[]
  /** What the server asked, and which answers it got. */
  questions: number[]
  answered: number[]
  /** By node. */
  casts: Record<string, number[]>
  /** Binary that was not what it had to be. */
  corrupted: number
  /** What the server knows of the socket in the end. */
  account: Account | null
}

export interface Account {
  id: string
  heard: number
  mark: string
  rooms: string[]
}

const slowMsMost = 40
const answerMsMost = 30

function blobOf(n: number): Buffer {
  return Buffer.alloc(n % 200, n & 0xff)
}

function isBlobOf(n: number, blob: unknown): boolean {
  return blob instanceof Uint8Array && blobOf(n).equals(blob)
}

/** An application whose every word is numbered, and that notes what it does. */
export function ledgerApp(io: Server, node: string, note: (note: Note) => void): void {
  io.on('connection', async (socket) => {
    const heard = (what: Kind, n: number, from: string) => {
      note({ node, socket: from, what, n, at: machineTime() })
      socket.data.heard++
    }
    note({ node, socket: socket.id, what: socket.recovered ? 'recovered' : 'new', n: 0, at: machineTime() })
    // What the client says meanwhile must wait, or it is lost.
    if (socket.recovered) await delay(2)
    else {
      Object.assign(socket.data, { heard: 0, mark: socket.id })
      void socket.join('all')
    }
    socket.on('tell', (n: number, from: string) => heard('tell', n, from))
    socket.on(
      'say',
      (n: number, from: string, blob: Buffer, answer: (heard: number, blob: Buffer) => void) => {
        heard('say', n, from)
        answer(socket.data.heard, blob)
      },
    )
    socket.on('slow', (n: number, from: string, ms: number, answer: () => void) => {
      heard('slow', n, from)
      setTimeout(() => {
        socket.emit('late', n)
        answer()
      }, ms)
    })
    socket.on('ask', (n: number, from: string, ms: number) => {
      heard('ask', n, from)
      socket.emit('question', n, ms, blobOf(n), (answer: number, blob: Buffer) =>
        socket.emit('answered', answer, blob),
      )
    })
    socket.on('account', (answer: (account: Account) => void) => {
      const { heard, mark } = socket.data
      answer({ id: socket.id, heard, mark, rooms: [...socket.rooms] })
    })
  })
}

/** Broadcasts of one node, numbered. */
export class Caster {
  private readonly io: Server
  private readonly node: string
  private readonly note: (note: Note) => void
  private last = 0
  private timer: NodeJS.Timeout | null = null

  constructor(io: Server, node: string, note: (note: Note) => void) {
    this.io = io
    this.node = node
    this.note = note
  }

  cast(): void {
    const n = ++this.last
    this.note({ node: this.node, socket: '', what: 'cast', n, at: machineTime() })
    this.io.to('all').emit('cast', this.node, n, blobOf(n))
  }

  start(everyMs: number): void {
    this.timer ??= setInterval(() => this.cast(), everyMs)
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer)
    this.timer = null
  }
}

/** A client of `ledgerApp` that keeps account of everything. */
export class LedgerClient {
  readonly socket: Socket
  readonly epochs: Epoch[] = []
  private readonly changed: () => void

  /** To be called before the socket is connected. `changed`: something has come. */
  constructor(socket: Socket, changed: () => void = () => {}) {
    this.socket = socket
    this.changed = changed
    socket.on('connect', () => this.connected())
    socket.on('disconnect', (reason) => this.ended(reason))
    socket.on('late', (n: number) => this.add((epoch) => epoch.late.push(n)))
    socket.on('cast', (node: string, n: number, blob: unknown) =>
      this.add((epoch) => {
        epoch.casts[node] ??= []
        epoch.casts[node].push(n)
        if (!isBlobOf(n, blob)) epoch.corrupted++
      }),
    )
    socket.on(
      'question',
      (n: number, ms: number, blob: unknown, answer: (n: number, blob: Buffer) => void) => {
        this.add((epoch) => {
          epoch.questions.push(n)
          if (!isBlobOf(n, blob)) epoch.corrupted++
        })
        setTimeout(() => answer(n, blobOf(n)), ms)
      },
    )
    socket.on('answered', (n: number, blob: unknown) =>
      this.add((epoch) => {
        epoch.answered.push(n)
        if (!isBlobOf(n, blob)) epoch.corrupted++
      }),
    )
  }

  /** The present epoch; null while the client is not connected. */
  get present(): Epoch | null {
    const last = this.epochs.at(-1)
    return last === undefined || last.until !== null ? null : last
  }

  /** Sends one event, if it is connected. */
  talk(random: Random): void {
    const epoch = this.present
    if (epoch === null) return
    const kind = random.pick(['say', 'say', 'say', 'say', 'tell', 'ask', 'ask', 'slow'] as const)
    const n = epoch.sent.push(kind)
    const { socket } = this
    if (kind === 'tell') {
      socket.emit('tell', n, epoch.id)
    } else if (kind === 'ask') {
      socket.emit('ask', n, epoch.id, random.int(0, answerMsMost))
    } else if (kind === 'slow') {
      socket.emit('slow', n, epoch.id, random.int(1, slowMsMost), () => {
        epoch.slow.push(n)
        this.changed()
      })
    } else {
      socket.emit('say', n, epoch.id, blobOf(n), (heard: number, blob: unknown) => {
        epoch.said.push([n, heard])
        if (!isBlobOf(n, blob)) epoch.corrupted++
        this.changed()
      })
    }
  }

  /** What the present epoch still waits for; broadcasts apart. */
  get missing(): number {
    const epoch = this.present
    if (epoch === null) return 1
    const count = (kind: Kind) => epoch.sent.filter((one) => one === kind).length
    return (
      count('say') -
      new Set(epoch.said.map(([n]) => n)).size +
      2 * count('slow') -
      new Set(epoch.slow).size -
      new Set(epoch.late).size +
      2 * count('ask') -
      new Set(epoch.questions).size -
      new Set(epoch.answered).size
    )
  }

  /** Asks the server what it knows. Rejects when it does not answer. */
  async takeAccount(timeoutMs: number): Promise<void> {
    const account: Account = await this.socket.timeout(timeoutMs).emitWithAck('account')
    const epoch = this.present
    if (epoch !== null) epoch.account = account
  }

  private connected(): void {
    const anew = this.present !== null
    this.ended('connect')
    const { id, io } = this.socket
    const engine = io.engine as unknown as { transport: { name: string } }
    this.epochs.push({
      id: id!,
      anew,
      transport: engine.transport.name,
      from: machineTime(),
      until: null,
      end: null,
      sent: [],
      said: [],
      slow: [],
      late: [],
      questions: [],
      answered: [],
      casts: {},
      corrupted: 0,
      account: null,
    })
    this.changed()
  }

  private ended(reason: string): void {
    const epoch = this.present
    if (epoch === null) return
    epoch.until = machineTime()
    epoch.end = reason
    const engine = this.socket.io.engine as unknown as { transport: { name: string } } | undefined
    if (engine !== undefined) epoch.transport = engine.transport.name
    this.changed()
  }

  private add(change: (epoch: Epoch) => void): void {
    // What came last before a loss belongs to what was lost.
    const epoch = this.epochs.at(-1)
    if (epoch !== undefined) change(epoch)
    this.changed()
  }
}
