import { crc32 } from 'node:zlib'
import { decode } from 'notepack.io'
import { globEscape, RedisListener } from '../../cluster/redis-listener.ts'
import type { NodeGroups, Way } from '../groups.ts'
import type { BroadcastOptions, Room } from './views.ts'

export interface EmittersOptions {
  /** Where they publish: `redis://[user:password@]host[:port][/db]`, or `rediss:`. */
  redis: string
  /** As the emitters' option of this name. Default `socket.io`. */
  key?: string
}

export interface EmittersHost {
  readonly nodeId: string
  readonly groups: NodeGroups
  warn(message: string): void
  /** By way of one link, and only where nothing was cast with the same `once`. */
  emit(
    way: Way,
    once: string,
    namespace: string,
    options: BroadcastOptions,
    packet: { data: unknown[] },
  ): void
  operate(way: Way, once: string, namespace: string, options: BroadcastOptions, operation: Ordered): void
  serverSideEmit(namespace: string, args: unknown[]): void
}

export type Ordered = { op: 'join' | 'leave'; rooms: Room[] } | { op: 'disconnect'; close: boolean }

interface Heard {
  readonly channel: string
  readonly message: Buffer
  readonly once: string
  readonly at: number
}

const remoteJoin = 2
const remoteLeave = 3
const remoteDisconnect = 4
const serverSideEmit = 6
/** How long, and how much, a node can repeat of what the leader may not have cast. More than the time after which a silent node is down. */
const keptMs = 10_000
const keptBytes = 4 * 1024 * 1024

/**
 * Gives what `@socket.io/redis-emitter` publishes to the gateways' rooms. All nodes hear it; at each gateway the first of its nodes casts it, and
 * the gateway knows by its place what it has got already. So the next one can begin some seconds back when the first is gone.
 */
export class Emitters {
  private readonly host: EmittersHost
  private readonly listener: RedisListener
  private readonly prefix: string
  private readonly requestPrefix: string
  /** Since when a way leads to this node alone, or until when it has. */
  private readonly ways = new Map<Way, { leads: boolean; until: number }>()
  private mark: string | null = null
  private count = 0
  private kept: Heard[] = []
  private bytes = 0
  /** So many of the first are kept no longer. */
  private gone = 0

  constructor({ redis, key = 'socket.io' }: EmittersOptions, host: EmittersHost) {
    this.host = host
    this.prefix = `${key}#`
    this.requestPrefix = `${key}-request#`
    const markChannel = `${key}-evenkeel#`
    this.listener = new RedisListener({
      url: redis,
      patterns: [this.prefix, this.requestPrefix, markChannel].map((start) => `${globEscape(start)}*`),
      markChannel,
      heard: (channel, message) => this.heard(channel, message),
      marked: (mark) => this.marked(mark),
      interrupted: () => {
        this.mark = null
      },
      warn: host.warn,
    })
  }

  start(): Promise<void> {
    return this.listener.start()
  }

  close(): void {
    this.listener.close()
  }

  /** Links, or nodes linked to the same gateways, have come or gone. */
  peersChanged(): void {
    const now = performance.now()
    const ways = this.host.groups.ways(this.host.nodeId)
    for (const way of this.ways.keys()) if (!ways.has(way)) this.ways.delete(way)
    for (const [way, leads] of ways) {
      const known = this.ways.get(way)
      if (leads && known?.leads !== true) {
        this.ways.set(way, { leads, until: 0 })
        // What was heard before the gateway was there is for none of its clients.
        for (const heard of this.kept.slice(this.gone)) if (heard.at >= way.since) this.give(way, heard)
      } else if (!leads) {
        // Who leads from now on may have come a moment ago.
        this.ways.set(way, { leads, until: known?.leads === true ? now + keptMs : (known?.until ?? 0) })
      }
    }
  }

  private marked(mark: string): void {
    if (this.mark !== null && BigInt(mark) <= BigInt(this.mark)) return
    this.mark = mark
    this.count = 0
  }

  private heard(channel: string, message: Buffer): void {
    if (channel.startsWith(this.requestPrefix) && this.told(channel, message)) return
    const now = performance.now()
    const place = this.mark === null ? `${this.host.nodeId} ${now}` : `${this.mark} ${++this.count}`
    const heard = { channel, message, once: `${place} ${crc32(message)}`, at: now }
    this.keep(heard)
    for (const [way, { leads, until }] of this.ways) if (leads || until > now) this.give(way, heard)
  }

  private keep(heard: Heard): void {
    this.kept.push(heard)
    this.bytes += heard.message.length
    for (; this.gone < this.kept.length; this.gone++) {
      const first = this.kept[this.gone]!
      if (this.bytes <= keptBytes && heard.at - first.at <= keptMs) break
      this.bytes -= first.message.length
    }
    // Moving all the others for each one that goes would cost more than the rest together.
    if (this.gone * 2 < this.kept.length) return
    this.kept = this.kept.slice(this.gone)
    this.gone = 0
  }

  /** What each server is told; returns false for anything else. */
  private told(channel: string, message: Buffer): boolean {
    const request = readJson(message)
    if (request?.type !== serverSideEmit) return false
    const { data, requestId } = request
    // Answers are for servers that count us; they do not.
    if (Array.isArray(data) && requestId === undefined)
      this.host.serverSideEmit(channel.slice(this.requestPrefix.length, -1), data)
    return true
  }

  private give(way: Way, { channel, message, once }: Heard): void {
    try {
      if (channel.startsWith(this.requestPrefix)) this.operate(way, once, channel, message)
      else this.emit(way, once, message)
    } catch (error) {
      this.host.warn(`a message of an emitter was dropped: ${String((error as Error).message)}`)
    }
  }

  private emit(way: Way, once: string, message: Buffer): void {
    const [, packet, options] = decode(message) as [unknown, Record<string, unknown>, unknown]
    const { data, nsp = '/' } = packet
    if (!Array.isArray(data) || typeof nsp !== 'string') throw new Error('it holds no event')
    this.host.emit(way, once, nsp, readOptions(options), { data })
  }

  private operate(way: Way, once: string, channel: string, message: Buffer): void {
    const request = readJson(message)
    const namespace = channel.slice(this.requestPrefix.length, -1)
    if (typeof request?.opts !== 'object') return
    const options = readOptions(request.opts)
    const rooms = readRooms(request.rooms)
    const { type } = request
    if (type === remoteJoin) this.host.operate(way, once, namespace, options, { op: 'join', rooms })
    else if (type === remoteLeave) this.host.operate(way, once, namespace, options, { op: 'leave', rooms })
    else if (type === remoteDisconnect)
      this.host.operate(way, once, namespace, options, { op: 'disconnect', close: request.close === true })
  }
}

function readJson(message: Buffer): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(message.toString())
    return typeof value === 'object' ? (value as Record<string, unknown> | null) : null
  } catch {
    return null
  }
}

function readOptions(value: unknown): BroadcastOptions {
  const { rooms, except, flags } = (value ?? {}) as Record<string, unknown>
  const isVolatile = (flags as { volatile?: unknown } | undefined)?.volatile === true
  return {
    rooms: new Set(readRooms(rooms)),
    except: new Set(readRooms(except)),
    flags: { volatile: isVolatile },
  }
}

function readRooms(value: unknown): Room[] {
  if (!Array.isArray(value)) return []
  return value.filter((room) => typeof room === 'string' || typeof room === 'number')
}
