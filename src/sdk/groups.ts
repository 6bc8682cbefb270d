import type { Link } from '../link/link.ts'
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
  private readonly links = new Map<Link, readonly Peer[]>()
  private readonly casts = new Map<number, CountedCast>()
  private lastCast = 0

  /** Other nodes of the pool that can be told something. */
  peers(selfId: string): Peer[] {
    const known = new Map<string, Peer>()
    for (const peers of this.links.values()) for (const peer of peers) known.set(peer.id, peer)
    known.delete(selfId)
    return [...known.values()]
  }

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

  linkUp(link: Link): void {
    this.links.set(link, [])
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
      if (this.links.has(link)) this.links.set(link, nodes)
      this.handlers?.peersChanged()
    } else {
      return false
    }
    return true
  }

  private put(number: number, audience: Audience, data: string | Uint8Array, isVolatile: boolean): void {
    const payload = typeof data === 'string' ? Buffer.from(data) : data
    const flags = (typeof data === 'string' ? RecordFlag.text : 0) | (isVolatile ? RecordFlag.volatile : 0)
    for (const link of this.links.keys()) link.putCast(flags, number, audience, payload)
  }

  private answered(number: number, cast: CountedCast, link: Link, count: number): void {
    if (!cast.waiting.delete(link)) return
    cast.count += count
    if (cast.waiting.size > 0) return
    this.casts.delete(number)
    cast.resolve(cast.count)
  }

  private wayTo(node: string, preferred: unknown): Link | undefined {
    const ways = [...this.links].filter(([, peers]) => node === '*' || peers.some((peer) => peer.id === node))
    return (ways.find(([link]) => link === preferred) ?? ways[0])?.[0]
  }
}
