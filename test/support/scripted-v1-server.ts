import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'
import { type WebSocket, WebSocketServer } from 'ws'
import {
  type ClientHello,
  type ClientResume,
  type ClientWelcome,
  clientSubprotocol,
  encodeClientWelcome,
  type Payload,
  parseClientHello,
} from '../../src/protocol/client-frames.ts'
import { until } from './until.ts'

export const freshToken = () => randomBytes(32).toString('base64url')

export const freshWelcome = (): ClientWelcome => ({
  session: 'session-1',
  token: freshToken(),
  recovered: null,
  reason: null,
  ack: 0,
  last: 0,
  out: 0,
  resumeMs: 120_000,
  retryMs: 0,
  messageBytes: 1024 * 1024,
})

/** A client's connection, as its gateway sees it. It says only what the test has it say. */
export class V1Peer {
  /** What came and was not taken yet. */
  readonly received: Payload[] = []
  end: { code: number; reason: string } | null = null
  /** Takes all frames, instead of `next`. */
  onframe: ((frame: Payload) => void) | null = null
  private readonly ws: WebSocket
  private readonly looks = new Set<() => void>()

  constructor(ws: WebSocket) {
    this.ws = ws
    ws.on('message', (data: Buffer, binary) => {
      const frame = binary ? new Uint8Array(data) : data.toString()
      if (this.onframe !== null) return this.onframe(frame)
      this.received.push(frame)
      this.look()
    })
    ws.on('close', (code, reason) => {
      this.end = { code, reason: reason.toString() }
      this.look()
    })
    ws.on('error', () => {})
  }

  send(...frames: Payload[]): void {
    for (const frame of frames) this.ws.send(frame)
  }

  /** Takes the next frame. */
  async next(): Promise<Payload> {
    await until(() => this.received.length > 0 || this.end !== null, this.looks, { what: 'a frame' })
    const frame = this.received.shift()
    if (frame === undefined) throw new Error(`the client has closed: ${JSON.stringify(this.end)}`)
    return frame
  }

  async hello(): Promise<ClientHello> {
    return parseClientHello((await this.next()) as string)
  }

  /** Takes the hello and welcomes the client: to a new session, or as `change` says. */
  async welcome(change: Partial<ClientWelcome> = {}): Promise<ClientHello> {
    const hello = await this.hello()
    this.send(encodeClientWelcome({ ...freshWelcome(), ...change }))
    return hello
  }

  /** Welcomes the client to the session that it has asked for. */
  async recover(change: Partial<ClientWelcome> = {}): Promise<ClientResume> {
    const { resume } = await this.hello()
    if (resume === undefined) throw new Error('the client has asked for a new session')
    const { session, out } = resume
    this.send(encodeClientWelcome({ ...freshWelcome(), recovered: true, session, out, ...change }))
    return resume
  }

  /** As when the network is gone: without a close frame. */
  drop(): void {
    this.ws.terminate()
  }

  close(code: number, reason = ''): void {
    this.ws.close(code, reason)
  }

  async ended(): Promise<{ code: number; reason: string }> {
    await until(() => this.end !== null, this.looks, { what: 'the end of the connection' })
    return this.end!
  }

  private look(): void {
    for (const look of [...this.looks]) look()
  }
}

/** Listens on a free port until the test is over. */
export class ScriptedV1Server {
  readonly url: string
  /** Takes all connections, instead of `accept`. */
  onpeer: ((peer: V1Peer) => void) | null = null
  private readonly peers: V1Peer[] = []
  private readonly looks = new Set<() => void>()

  private constructor(port: number) {
    this.url = `ws://127.0.0.1:${port}/ws`
  }

  static async listen(subprotocol: string | false = clientSubprotocol): Promise<ScriptedV1Server> {
    const listener = new WebSocketServer({ host: '127.0.0.1', port: 0, handleProtocols: () => subprotocol })
    await once(listener, 'listening')
    const server = new ScriptedV1Server((listener.address() as AddressInfo).port)
    listener.on('connection', (ws) => server.connected(new V1Peer(ws)))
    onTestFinished(() => {
      for (const ws of listener.clients) ws.terminate()
      listener.close()
    })
    return server
  }

  /** The next connection. */
  async accept(): Promise<V1Peer> {
    await until(() => this.peers.length > 0, this.looks, { what: 'a connection' })
    return this.peers.shift()!
  }

  private connected(peer: V1Peer): void {
    if (this.onpeer === null) this.peers.push(peer)
    else this.onpeer(peer)
    for (const look of [...this.looks]) look()
  }
}
