import { once } from 'node:events'
import { onTestFinished } from 'vitest'
import { type RawData, WebSocket } from 'ws'
import { Recorder } from './recorder.ts'

/** Engine.IO as bytes, for tests of what is on the wire. `base` is a URL with its path, as `http://127.0.0.1:80/engine.io/`. */

export type Piece = string | Buffer

export interface Opened {
  sid: string
  upgrades: string[]
  pingInterval: number
  pingTimeout: number
  maxPayload: number
}

const separator = '\x1e'

/** A client that polls. */
export class PollingWire {
  readonly url: string
  readonly opened: Opened
  private left: Piece[] = []

  static async open(base: string): Promise<PollingWire> {
    const answer = await fetch(`${base}?EIO=4&transport=polling`)
    return new PollingWire(base, JSON.parse((await answer.text()).slice(1)))
  }

  private constructor(base: string, opened: Opened) {
    this.opened = opened
    this.url = `${base}?EIO=4&transport=polling&sid=${opened.sid}`
  }

  async poll(init: RequestInit = {}): Promise<{ status: number; text: string }> {
    const answer = await fetch(this.url, init)
    return { status: answer.status, text: await answer.text() }
  }

  async post(body: string): Promise<{ status: number; text: string }> {
    const answer = await fetch(this.url, { method: 'POST', body })
    return { status: answer.status, text: await answer.text() }
  }

  /** Sends pieces as they would be on a WebSocket. */
  async send(...pieces: Piece[]): Promise<void> {
    const body = pieces.map((piece) => (typeof piece === 'string' ? piece : `b${piece.toString('base64')}`))
    const { status, text } = await this.post(body.join(separator))
    if (status !== 200) throw new Error(`POST was answered ${status} ${text}`)
  }

  /** The next pieces, however many answers they come in. Answers pings. */
  async next(count: number): Promise<Piece[]> {
    while (this.left.length < count) {
      const { status, text } = await this.poll()
      if (status !== 200) throw new Error(`a poll was answered ${status} ${text}`)
      for (const packet of text.split(separator)) {
        if (packet === '2') await this.post('3')
        else this.left.push(packet[0] === 'b' ? Buffer.from(packet.slice(1), 'base64') : packet)
      }
    }
    return this.left.splice(0, count)
  }

  /** Polls until the session is unknown. */
  async ended(): Promise<void> {
    while ((await this.poll()).status === 200);
  }

  async isOver(): Promise<boolean> {
    await this.ended()
    return true
  }
}

/** A client on a WebSocket. It answers no pings. */
export class WebSocketWire {
  readonly ws: WebSocket
  readonly received = new Recorder<Piece>()
  readonly closed: Promise<number>
  private taken = 0

  /** `query` stands behind `EIO=4&transport=websocket`. */
  static async open(base: string, query = ''): Promise<WebSocketWire> {
    const wire = new WebSocketWire(base, `EIO=4&transport=websocket${query}`)
    await once(wire.ws, 'open')
    return wire
  }

  /** With a session of its own; its handshake is taken. */
  static async start(base: string): Promise<WebSocketWire> {
    const wire = await WebSocketWire.open(base)
    await wire.next(1)
    return wire
  }

  constructor(base: string, query: string) {
    this.ws = new WebSocket(`${base.replace('http', 'ws')}?${query}`)
    this.ws.on('message', (data: RawData, isBinary) => {
      this.received.add(isBinary ? (data as Buffer) : data.toString())
    })
    this.ws.on('error', () => {})
    this.closed = new Promise((resolve) => this.ws.on('close', resolve))
    onTestFinished(() => this.ws.terminate())
  }

  async send(...pieces: Piece[]): Promise<void> {
    for (const piece of pieces) this.ws.send(piece)
  }

  async next(count: number): Promise<Piece[]> {
    await this.received.until(({ length }) => length >= this.taken + count)
    this.taken += count
    return this.received.items.slice(this.taken - count, this.taken)
  }

  /** Resolves when the server has closed it. */
  async isOver(): Promise<boolean> {
    await this.closed
    return true
  }
}

export type Wire = PollingWire | WebSocketWire

export async function connectWire(base: string, transport: 'polling' | 'websocket'): Promise<Wire> {
  return transport === 'polling' ? PollingWire.open(base) : WebSocketWire.start(base)
}
