import { Link, type LinkSocket } from '../../src/link/link.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'
import { RecordFlag, recordName, type Welcome } from '../../src/protocol/link-records.ts'
import { ResumableSessions } from '../../src/sdk/resumable-sessions.ts'
import type { NodeSession } from '../../src/sdk/session.ts'
import { SessionTable } from '../../src/sdk/session-table.ts'
import type { Delivery } from '../../src/sdk/types.ts'
import { decodeRecords, encodeRecord, json, type RecordKind, u32s, type WireRecord } from './link-wire.ts'

export const benchMeta = JSON.stringify({ id: 's', transport: 'websocket' })

/** Fields of the records that a gateway sends. What is left out is the first of its kind, or nothing. */
export interface Sent {
  number?: number
  term?: number
  credit?: number
  ack?: number
  out?: number
  state?: string
  recovered?: boolean
  resumable?: boolean
}

/** The sessions of a node over several links, whose sockets only keep what is written. No time passes by itself. */
export class SdkBench {
  /** What the application was told: `open`, `open recovered`, `m1`, `close migrated`. */
  readonly told: string[] = []
  /** Of its messages, those that were marked. */
  readonly redelivered: string[] = []
  readonly opened: NodeSession[] = []
  readonly notJoined: string[] = []
  nowMs = 0
  /** While one is set, handlers of this kind wait for it. */
  readonly busy: { open?: Promise<void>; message?: Promise<void>; close?: Promise<void> } = {}
  /** What the application does besides. */
  onOpen: (session: NodeSession) => void = () => {}
  onMessage: (session: NodeSession, data: string, seq: number) => void | Promise<void> = () => {}
  onClose: (session: NodeSession) => void = () => {}
  /** The links that TAKE gave a session. */
  readonly taken: BenchLink[] = []
  orphanChanges = 0
  readonly resumable: ResumableSessions
  readonly delivery: Delivery

  constructor(delivery: Delivery = 'stream') {
    this.delivery = delivery
    this.resumable = new ResumableSessions({
      now: () => this.nowMs,
      failed: fail,
      orphansChanged: () => void this.orphanChanges++,
    })
  }

  link(welcome: Partial<Welcome> = {}): BenchLink {
    return new BenchLink(this, welcome)
  }

  get messages(): string[] {
    return this.told.filter((one) => !/^(open|close)/.test(one))
  }

  get closes(): string[] {
    return this.told.filter((one) => one.startsWith('close ')).map((one) => one.slice(6))
  }

  get session(): NodeSession {
    return this.opened.at(-1)!
  }
}

/** One link of the bench, seen from its gateway. */
export class BenchLink {
  readonly table: SessionTable
  readonly link: Link
  readonly instance: string
  private readonly sent: Buffer[] = []

  constructor(bench: SdkBench, { instance = 'g1', resumeMs = 60_000 }: Partial<Welcome>) {
    this.instance = instance
    const socket: LinkSocket = {
      bufferedAmount: 0,
      send: (slab, start, end) => void this.sent.push(Buffer.from(slab.subarray(start, end))),
      close() {},
      terminate() {},
    }
    const none = { record() {}, close() {} }
    this.link = new Link(socket, none, { role: 'node', highWaterBytes: 1, now: () => 0 })
    const times = { heartbeatMs: 1, suspectMs: 1, downMs: 1 }
    this.table = new SessionTable({
      link: this.link,
      welcome: { protocol: 1, gateway: 'g', instance, resumeMs, limits: defaultLimits, ...times },
      handlers: {
        open: (session) => {
          bench.told.push(session.recovered ? 'open recovered' : 'open')
          bench.opened.push(session as NodeSession)
          bench.onOpen(session as NodeSession)
          return bench.busy.open
        },
        message: (session, data, { seq, redelivered }) => {
          bench.told.push(String(data))
          if (redelivered) bench.redelivered.push(String(data))
          return bench.onMessage(session as NodeSession, String(data), seq) ?? bench.busy.message
        },
        close: (session, { cause, code }) => {
          bench.told.push(cause === 'client' ? `close client ${code}` : `close ${cause}`)
          bench.onClose(session as NodeSession)
          return bench.busy.close
        },
      },
      atomic: bench.delivery === 'atomic',
      resumable: bench.resumable,
      now: () => bench.nowMs,
      refusal: () => null,
      sizeChanged() {},
      taken: () => void bench.taken.push(this),
      notJoined: (_session, channel) => void bench.notJoined.push(channel),
      failed: fail,
    })
  }

  /** As if the gateway had sent it. Returns what the node answers in this turn, as `answers` does. */
  on(kind: RecordKind, { number = 7, term = 1 }: Sent, body: Buffer = Buffer.alloc(0), flags = 0): string[] {
    const linkRecords: RecordKind[] = ['seek', 'drop']
    const session = linkRecords.includes(kind) ? 0 : number
    const batch = encodeRecord(kind, { session, term: session === 0 ? 0 : term, body, flags })
    const { records, error } = decodeRecords(batch, 'gateway')
    if (error !== null) throw error
    for (const one of records)
      this.table.record(one.type, flags, one.session, one.term, batch, 14, batch.length)
    return this.answers()
  }

  open(sent: Sent = {}): string[] {
    const { credit = 1_000, ack = 0, out = 0, state = '' } = sent
    return this.on(
      'open',
      sent,
      u32s([credit, ack, out, benchMeta.length], benchMeta + state),
      flagsOf({ resumable: true, ...sent }),
    )
  }

  prepare(sent: Sent = {}): string[] {
    const flags = sent.resumable === false ? 0 : RecordFlag.resumable
    return this.on('prepare', sent, u32s([benchMeta.length], benchMeta), flags)
  }

  activate(sent: Sent = {}): string[] {
    const { credit = 1_000, ack = 0, out = 0, state = '' } = sent
    return this.on('activate', sent, u32s([credit, ack, out], state), flagsOf({ state }))
  }

  keep(sent: Sent, tokens: string[], channels: string[] | null = [], version = 1): string[] {
    return this.on('keep', sent, json({ version, tokens, out: sent.out ?? 0, channels }))
  }

  tail(sent: Sent, seq: number, text = `o${seq}`): string[] {
    return this.on('tail', sent, u32s([seq], text), RecordFlag.text)
  }

  message(sent: Sent, seq: number, flags = 0): string[] {
    return this.on('message', sent, u32s([seq], `m${seq}`), RecordFlag.text | flags)
  }

  acked(sent: Sent, out: number): string[] {
    return this.on('acked', sent, u32s([out]))
  }

  seek(token: string, next: string, session = 's'): string[] {
    return this.on('seek', {}, json({ seek: 1, session, token, next }))
  }

  take(sent: Sent, session = 's'): string[] {
    return this.on('take', sent, u32s([sent.credit ?? 1_000, sent.out ?? 0], session))
  }

  drop(term: number): string[] {
    return this.on('drop', {}, json({ session: 's', term }))
  }

  lose({ forGood = false } = {}): void {
    this.link.closed = true
    this.table.linkLost(forGood ? null : this.instance)
  }

  /** Ends the turn: what the node has sent since, one line for each record. */
  answers(): string[] {
    this.table.writeCommits()
    this.link.flush()
    const { records, error } = decodeRecords(Buffer.concat(this.sent.splice(0)), 'node')
    if (error !== null) throw error
    return records.map(line)
  }
}

/** A record as a line: `KIND number(term)` and what is in it. */
function line({ type, flags, session, term, body }: WireRecord): string {
  const kind = recordName(type)
  const text = (from: number) => body.toString('utf8', from)
  const number = () => body.readUInt32LE(0)
  const where = session === 0 ? kind : `${kind} ${session}(${term})`
  const mark = (flags & RecordFlag.held) !== 0 ? ' held' : (flags & RecordFlag.late) !== 0 ? ' late' : ''
  switch (kind) {
    case 'OUTPUT':
      return `${where}${mark} ${number()} ${(flags & RecordFlag.text) !== 0 ? text(4) : body.toString('hex', 4)}`
    case 'COMMIT':
      return `${where} ${number()}${(flags & RecordFlag.state) !== 0 ? ` ${text(4)}` : ''}`
    case 'TAKEN': {
      const end = 8 + body.readUInt32LE(4)
      const { meta, channels } = JSON.parse(body.toString('utf8', 8, end))
      const state = (flags & RecordFlag.state) !== 0 ? ` ${text(end)}` : ''
      return `${where} ${number()} ${meta.id} [${channels}]${state}`
    }
    case 'FIN':
    case 'KEPT':
      return `${where} ${number()}`
    case 'REFUSED':
      return `${where} ${JSON.parse(text(0)).code}`
    case 'CLOSE':
      return `${where} ${body.readUInt16LE(0)}`
    case 'FOUND':
    case 'JOIN':
    case 'LEAVE':
      return `${where} ${text(0)}`
    default:
      return where
  }
}

function flagsOf({ state = '', recovered = false, resumable = false }: Sent): number {
  return (
    (state === '' ? 0 : RecordFlag.state) |
    (recovered ? RecordFlag.recovered : 0) |
    (resumable ? RecordFlag.resumable : 0)
  )
}

function fail(_session: NodeSession, error: unknown): never {
  throw error
}
