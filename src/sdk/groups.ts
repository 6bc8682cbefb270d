import type { Link } from '../link/link.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { RecordFlag, RecordType, readU32 } from '../protocol/link-records.ts'

/** Who is meant by a cast: all in one of `rooms`, or in the scope when none is named, without those in one of `except`. */
export interface Audience {
  scope: string
  rooms: readonly (string | number)[]
  except: readonly (string | number)[]
  /** Their clients, or the `message` handlers of their nodes. */
  to: 'clients' | 'nodes'
  /** Rooms that they join or leave before. */
  join?: readonly (string | number)[]
  leave?: readonly (string | number)[]
  /** At most 128 characters. Of all casts of the pool's nodes with the same, a gateway does the first. */
  once?: string
}

/** The way to one gateway. */
export interface Way {
  readonly link: Link
  /** When it came, by `performance.now()`. */
  readonly since: number
  readonly messageBytes: number
}

export interface Peer {
  id: string
  /** Random for each process. */
  instance: string
}

export interface GroupsHandlers {
  /** Another node of the pool said something. */
  told(from: string, data: string | Buffer): void
  peersChanged(): void
}

interface CountedCast {
  waiting: Set<Link>
  count: number
  resolve(count: number): void
}

/** Messages to rooms and to other nodes of the pool: over all links, since each gateway knows its own sessions alone. */
export class NodeGroups {
  handlers: GroupsHandlers | null = null
  private readonly links = new Map<Link, { readonly way: Way; peers: readonly Peer[] }>()
  private readonly casts = new Map<number, CountedCast>()
  private lastCast = 0

  /** Other nodes of the pool that can be told something. */
  peers(selfId: string): Peer[] {
    const known = new Map<string, Peer>()
    for (const { peers } of this.links.values()) for (const peer of peers) known.set(peer.id, peer)
    known.delete(selfId)
    return [...known.values()]
  }

  /** All ways; true where the node is the first of those that are linked there, so that of all one does what is to be done once. */
  ways(selfId: string): Map<Way, boolean> {
    const leads = (peers: readonly Peer[]) => peers.length > 0 && peers.every(({ id }) => id >= selfId)
    return new Map([...this.links.values()].map(({ way, peers }) => [way, leads(peers)]))
  }

  /** To the sessions of one gateway. Throws TOO_LARGE above the message limit. */
  castBy(
    { link, messageBytes }: Way,
    audience: Audience,
    data: string | Uint8Array,
    isVolatile = false,
  ): void {
    const payload = checked(data, messageBytes)
    link.putCast(castFlags(data, isVolatile), 0, audience, payload)
  }

  /** Throws TOO_LARGE above the message limit. */
  check(data: string | Uint8Array): void {
    checked(data, this.messageBytes)
  }

  /** Throws TOO_LARGE above the message limit. */
  cast(audience: Audience, data: string | Uint8Array, isVolatile = false): void {
    this.put(0, audience, data, isVolatile)
  }

  /** The same; resolves with the number of sessions that get it, at the gateways that are linked. */
  async countedCast(audience: Audience, data: string | Uint8Array, isVolatile = false): Promise<number> {
    if (this.links.size === 0) return 0
    this.lastCast = (this.lastCast + 1) >>> 0 || 1
    const number = this.lastCast
    const waiting = new Set(this.links.keys())
    return await new Promise((resolve) => {
      this.casts.set(number, { waiting, count: 0, resolve })
      this.put(number, audience, data, isVolatile)
    })
  }

  /** Says something to the node with this id, or to all others (`*`). Lost when it is not there. `link`: by way of this one if it can. */
  tell(node: string, data: string | Uint8Array, link?: unknown): void {
    const payload = typeof data === 'string' ? Buffer.from(data) : data
    const flags = typeof data === 'string' ? RecordFlag.text : 0
    const way = this.wayTo(node, link)
    way?.putChannel(RecordType.tell, flags, node, payload)
  }

  linkUp(link: Link, messageBytes: number): void {
    this.links.set(link, { way: { link, since: performance.now(), messageBytes }, peers: [] })
  }

  linkDown(link: Link): void {
    this.links.delete(link)
    for (const [number, cast] of this.casts) this.answered(number, cast, link, 0)
    this.handlers?.peersChanged()
  }

  /** Returns false for a record that is none of this. */
  record(link: Link, type: number, flags: number, body: Buffer): boolean {
    if (type === RecordType.casted) {
      const number = readU32(body, 0)
      const cast = this.casts.get(number)
      if (cast !== undefined) this.answered(number, cast, link, readU32(body, 4))
    } else if (type === RecordType.told) {
      const nameEnd = 2 + body.readUInt16LE(0)
      const data =
        (flags & RecordFlag.text) !== 0 ? body.toString('utf8', nameEnd) : Buffer.from(body.subarray(nameEnd))
      this.handlers?.told(body.toString('utf8', 2, nameEnd), data)
    } else if (type === RecordType.peers) {
      const { nodes } = JSON.parse(body.toString('utf8')) as { nodes: Peer[] }
      const known = this.links.get(link)
      if (known !== undefined) known.peers = nodes
      this.handlers?.peersChanged()
    } else {
      return false
    }
    return true
  }

  private put(number: number, audience: Audience, data: string | Uint8Array, isVolatile: boolean): void {
    const payload = checked(data, this.messageBytes)
    for (const link of this.links.keys()) link.putCast(castFlags(data, isVolatile), number, audience, payload)
  }

  /** The least of all gateways: what one of them would refuse is sent to none. */
  private get messageBytes(): number {
    return Math.min(...[...this.links.values()].map(({ way }) => way.messageBytes))
  }

  private answered(number: number, cast: CountedCast, link: Link, count: number): void {
    if (!cast.waiting.delete(link)) return
    cast.count += count
    if (cast.waiting.size > 0) return
    this.casts.delete(number)
    cast.resolve(cast.count)
  }

  private wayTo(node: string, preferred: unknown): Link | undefined {
    const ways = [...this.links].filter(
      ([, { peers }]) => node === '*' || peers.some((peer) => peer.id === node),
    )
    return (ways.find(([link]) => link === preferred) ?? ways[0])?.[0]
  }
}

function castFlags(data: string | Uint8Array, isVolatile: boolean): number {
  return (typeof data === 'string' ? RecordFlag.text : 0) | (isVolatile ? RecordFlag.volatile : 0)
}

function checked(data: string | Uint8Array, limit: number): Uint8Array {
  const payload = typeof data === 'string' ? Buffer.from(data) : data
  if (payload.length <= limit) return payload
  // The gateway would close the link for it.
  throw new EvenkeelError('TOO_LARGE', `a message has at most ${limit} bytes`)
}
