import { once } from 'node:events'
import { onTestFinished } from 'vitest'
import { type ClientOptions, WebSocket } from 'ws'
import { linkSubprotocol, RecordFlag, RecordType, recordName } from '../../src/protocol/link-records.ts'
import { decodeRecords, encodeRecord, json, type RecordKind, u32s, type WireRecord } from './link-wire.ts'
import { answer, type NumberedState } from './numbered.ts'
import { until } from './until.ts'

export interface ScriptedNodeOptions {
  id?: string
  /** Fields of HELLO that are to differ. */
  hello?: Record<string, unknown>
  /** What it does instead of what a good node does, for each kind of record. */
  script?: Script
}

export type Script = Partial<Record<RecordKind, (record: WireRecord, node: ScriptedNode) => void>>

export interface ScriptedSession {
  readonly number: number
  readonly term: number
  phase: 'importing' | 'open' | 'finished'
  acked: number
  out: number
  state: NumberedState | undefined
}

export interface LinkEnd {
  code: number
  reason: string
}

/** A dial of `/link` that says nothing by itself. */
export async function dialLink(linkUrl: string, options: ClientOptions = {}, protocols = [linkSubprotocol]) {
  const ws = new WebSocket(new URL('/link', linkUrl), protocols, { perMessageDeflate: false, ...options })
  onTestFinished(() => ws.terminate())
  const ended = new Promise<LinkEnd>((resolve) =>
    ws.once('close', (code, reason) => resolve({ code, reason: String(reason) })),
  )
  await once(ws, 'open')
  ws.on('error', () => {})
  return { ws, ended }
}

export function helloOf(id: string, change: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    protocol: 1,
    id,
    instance: `instance-of-${id}`,
    pool: 'default',
    weight: 1,
    maxSessions: null,
    host: 'test',
    pid: process.pid,
    version: '',
    ...change,
  }
}

/** A node that is made of `ws` and the codec alone. It runs the numbered application, or what its script says. */
export class ScriptedNode {
  readonly id: string
  readonly received: WireRecord[] = []
  readonly sessions = new Map<number, ScriptedSession>()
  readonly ended: Promise<LinkEnd>
  script: Script
  private readonly ws: WebSocket
  private readonly taken = new Set<WireRecord>()
  private readonly looks = new Set<() => void>()

  private constructor(ws: WebSocket, ended: Promise<LinkEnd>, id: string, script: Script) {
    this.ws = ws
    this.ended = ended
    this.id = id
    this.script = script
    ws.on('message', (data) => this.receive(data as Buffer))
    ws.on('close', () => this.look())
  }

  /** Dials, introduces itself and is welcomed. */
  static async link(gateway: { linkUrl: string }, options: ScriptedNodeOptions = {}): Promise<ScriptedNode> {
    const { id = 'a', hello = {}, script = {} } = options
    const { ws, ended } = await dialLink(gateway.linkUrl)
    const node = new ScriptedNode(ws, ended, id, script)
    node.send(encodeRecord('hello', { body: json(helloOf(id, hello)) }))
    await node.next('welcome')
    return node
  }

  /** Sends records, or anything else, as one message. */
  send(...pieces: (Buffer | string)[]): void {
    const [first] = pieces
    if (typeof first === 'string') this.ws.send(first)
    else this.ws.send(Buffer.concat(pieces as Buffer[]))
  }

  /** The first record of this kind that was not taken yet. Waits for it. */
  async next(kind: RecordKind, fits: (record: WireRecord) => boolean = () => true): Promise<WireRecord> {
    const find = () =>
      this.received.find((one) => one.type === RecordType[kind] && !this.taken.has(one) && fits(one))
    const isOver = () => this.ws.readyState === WebSocket.CLOSED
    await until(() => find() !== undefined || isOver(), this.looks, { what: `${kind} at node ${this.id}` })
    const found = find()
    if (found === undefined) throw new Error(`the link of ${this.id} ended before ${kind}`)
    this.taken.add(found)
    return found
  }

  /** A PING and its PONG: the gateway has seen everything that was sent before. */
  async settled(): Promise<void> {
    const stamp = Math.floor(Math.random() * 0xffff_ffff)
    this.send(encodeRecord('ping', { body: u32s([stamp]) }))
    await this.next('pong', ({ body }) => body.readUInt32LE(0) === stamp)
  }

  kinds(): string[] {
    return this.received.map(({ type }) => recordName(type)).filter((name) => !/^P[IO]NG$|CREDIT/.test(name))
  }

  /** Dies as a process does: no close frame. */
  crash(): void {
    this.ws.terminate()
  }

  /** Goes on writing, and answers nothing any more, not even a close frame. */
  stopReading(): void {
    this.ws.pause()
  }

  /** Leaves politely. */
  leave(): void {
    this.ws.close(4000, 'goodbye')
  }

  /** What a good node does with a record. */
  behave({ type, flags, session: number, term, body }: WireRecord): void {
    const session = this.sessions.get(number)
    const reply = (kind: RecordKind, fields: Partial<WireRecord> = {}) =>
      this.send(encodeRecord(kind, { session: number, term, ...fields }))
    if (type === RecordType.ping) this.send(encodeRecord('pong', { body }))
    else if (type === RecordType.open) this.open(number, term, flags, body, 4, 16 + body.readUInt32LE(12))
    else if (type === RecordType.activate) this.open(number, term, flags, body, 4, 12)
    else if (type === RecordType.prepare) {
      this.sessions.set(number, { number, term, phase: 'importing', acked: 0, out: 0, state: undefined })
      reply('ready')
    } else if (session === undefined || session.term !== term) return
    else if (type === RecordType.message) this.handle(session, flags, body)
    else if (type === RecordType.quiesce) {
      session.phase = 'finished'
      reply('fin', { body })
    } else if (type === RecordType.resume) session.phase = 'open'
    else if (type === RecordType.release) this.sessions.delete(number)
    else if (type === RecordType.close) {
      this.sessions.delete(number)
      reply('closed')
    }
  }

  private open(number: number, term: number, flags: number, body: Buffer, at: number, stateAt: number): void {
    this.sessions.set(number, {
      number,
      term,
      phase: 'open',
      acked: body.readUInt32LE(at),
      out: body.readUInt32LE(at + 4),
      state: (flags & RecordFlag.state) === 0 ? undefined : JSON.parse(body.toString('utf8', stateAt)),
    })
  }

  private handle(session: ScriptedSession, flags: number, body: Buffer): void {
    const { number, term } = session
    const data = body.toString('utf8', 4)
    const { state, reply } = answer(
      this.id,
      term,
      (flags & RecordFlag.redelivered) !== 0,
      session.state,
      data,
    )
    session.state = state
    session.acked = body.readUInt32LE(0)
    this.send(
      output(session, ++session.out, reply),
      encodeRecord('commit', {
        session: number,
        term,
        flags: RecordFlag.state,
        body: u32s([session.acked], JSON.stringify(state)),
      }),
    )
  }

  private receive(batch: Buffer): void {
    const { records, error } = decodeRecords(batch, 'gateway')
    if (error !== null) throw error
    for (const record of records) {
      this.received.push(record)
      const kind = recordName(record.type).toLowerCase() as RecordKind
      const scripted = this.script[kind]
      if (scripted === undefined) this.behave(record)
      else scripted(record, this)
    }
    this.look()
  }

  private look(): void {
    for (const look of [...this.looks]) look()
  }
}

/** An OUTPUT of the session with this text. */
export function output(
  { number, term }: { number: number; term: number },
  seq: number,
  text: string,
  flags = 0,
): Buffer {
  return encodeRecord('output', {
    session: number,
    term,
    flags: RecordFlag.text | flags,
    body: u32s([seq], text),
  })
}
