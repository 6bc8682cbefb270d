import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'
import { type WebSocket, WebSocketServer } from 'ws'
import { defaultLimits } from '../../src/protocol/limits.ts'
import { linkSubprotocol, RecordFlag, RecordType, recordName } from '../../src/protocol/link-records.ts'
import { decodeRecords, encodeRecord, json, type RecordKind, u32s, type WireRecord } from './link-wire.ts'
import { until } from './until.ts'

export interface ScriptedGatewayOptions {
  id?: string
  instance?: string
  resumeMs?: number
  /** Default: any. */
  port?: number
}

/** A gateway that is made of `ws` and the codec alone: it welcomes nodes and says what a test tells it to. */
export class ScriptedGateway {
  readonly url: string
  readonly received: WireRecord[] = []
  private readonly server: WebSocketServer
  private readonly welcome: Record<string, unknown>
  private socket: WebSocket | null = null
  private readonly taken = new Set<WireRecord>()
  private readonly looks = new Set<() => void>()

  private constructor(server: WebSocketServer, options: ScriptedGatewayOptions) {
    const { id = 'g1', instance = `instance-of-${id}`, resumeMs = 60_000 } = options
    const { heartbeatMs, suspectMs, downMs } = defaultLimits
    this.server = server
    this.url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
    this.welcome = {
      protocol: 1,
      gateway: id,
      instance,
      resumeMs,
      limits: defaultLimits,
      heartbeatMs,
      suspectMs,
      downMs,
    }
    server.on('connection', (socket) => this.connected(socket))
  }

  static async start(options: ScriptedGatewayOptions = {}): Promise<ScriptedGateway> {
    const server = new WebSocketServer({
      host: '127.0.0.1',
      port: options.port ?? 0,
      path: '/link',
      perMessageDeflate: false,
      handleProtocols: () => linkSubprotocol,
    })
    await once(server, 'listening')
    const gateway = new ScriptedGateway(server, options)
    onTestFinished(() => gateway.die())
    return gateway
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port
  }

  /** Opens a session that can be resumed under the token with this hash. */
  open(session: { number: number; id: string; token: string; term?: number }): void {
    const { number, id, token, term = 1 } = session
    const meta = JSON.stringify({ id, transport: 'websocket' })
    const where = { session: number, term }
    this.send('open', {
      ...where,
      flags: RecordFlag.resumable,
      body: u32s([1_000, 0, 0, meta.length], meta),
    })
    this.send('keep', { ...where, body: json({ version: 1, tokens: [token], out: 0, channels: [] }) })
  }

  send(kind: RecordKind, fields: Partial<WireRecord> = {}): void {
    this.socket!.send(encodeRecord(kind, fields))
  }

  /** The first record of this kind that was not taken yet. Waits for it. */
  async next(kind: RecordKind, fits: (record: WireRecord) => boolean = () => true): Promise<WireRecord> {
    const find = () =>
      this.received.find((one) => one.type === RecordType[kind] && !this.taken.has(one) && fits(one))
    await until(() => find() !== undefined, this.looks, { what: `${kind} at ${this.welcome.gateway}` })
    const found = find()!
    this.taken.add(found)
    return found
  }

  /** A PING and its PONG: the node has handled everything that was sent before. */
  async settled(): Promise<void> {
    const stamp = Math.floor(Math.random() * 0xffff_ffff)
    this.send('ping', { body: u32s([stamp]) })
    await this.next('pong', ({ body }) => body.readUInt32LE(0) === stamp)
  }

  /** Names of the session records that came. */
  kinds(): string[] {
    return this.received.filter(({ session }) => session > 0).map(({ type }) => recordName(type))
  }

  /** Cuts the link as a crash does; the node may dial again. */
  cut(): void {
    this.socket?.terminate()
    this.socket = null
  }

  /** Is gone, for good. */
  async die(): Promise<void> {
    for (const socket of this.server.clients) socket.terminate()
    await new Promise((resolve) => this.server.close(resolve))
  }

  private connected(socket: WebSocket): void {
    this.socket = socket
    socket.on('message', (data) => this.receive(socket, data as Buffer))
    socket.on('error', () => {})
  }

  private receive(socket: WebSocket, batch: Buffer): void {
    const { records, error } = decodeRecords(batch, 'node')
    if (error !== null) throw error
    for (const record of records) {
      this.received.push(record)
      if (record.type === RecordType.hello) socket.send(encodeRecord('welcome', { body: json(this.welcome) }))
      if (record.type === RecordType.ping) socket.send(encodeRecord('pong', { body: record.body }))
    }
    for (const look of [...this.looks]) look()
  }
}
