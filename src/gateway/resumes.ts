import { Search } from '../core/session/search.ts'
import type { ClientWelcome } from '../protocol/client-frames.ts'
import { CloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import {
  type Found,
  parseRefusal,
  parseTakenInfo,
  RecordFlag,
  RecordType,
  readU32,
  type Seek,
  type SessionMeta,
} from '../protocol/link-records.ts'
import type { Gateway } from './gateway.ts'
import type { LinkedNode } from './linked-node.ts'
import type { NodeEntry } from './node-entry.ts'
import { hashToken, newToken, Resumable, type ResumableConnection, type ResumeRequest } from './resumable.ts'
import { ResumableSession } from './resumable-session.ts'
import { asciiJson } from './session.ts'

/** A client that has said hello. */
interface Arrival {
  readonly pool: string
  readonly meta: Omit<SessionMeta, 'id'>
  readonly connection: ResumableConnection
  /** Where a new session is to go. */
  readonly chosen: NodeEntry | null
  /** See `Session.key`. */
  readonly key: string | null
}

/** A session that a client wants and this gateway does not have. */
interface Wanted extends Arrival {
  readonly request: ResumeRequest
  readonly tokenHash: string
  /** The token that the client will get. */
  readonly token: string
  readonly tries: number
}

interface RunningSearch {
  readonly wanted: Wanted
  readonly seek: Seek
  readonly search: Search<LinkedNode>
}

/** A node has been told that the session is ours; it has not answered yet. */
interface Taking {
  readonly wanted: Wanted
  readonly node: LinkedNode
  readonly term: number
  /** The outputs that it gets begin behind this one. */
  readonly from: number
  readonly startedAt: number
}

const tickMs = 50
/** A node that is lost while it is asked may leave the session to another one. */
const triesMax = 3
/** Messages that a node may have and not have committed; far more than any gateway gives it. */
const uncommittedMax = 65_536

/** Clients that can come back say hello: they get a new session, their old one, or a word on why not. */
export class Resumes {
  private readonly gateway: Gateway
  private readonly searches = new Map<number, RunningSearch>()
  private readonly takings = new Map<number, Taking>()
  private lastSeek = 0
  private timer: NodeJS.Timeout | null = null

  constructor(gateway: Gateway) {
    this.gateway = gateway
  }

  /** Greets the client, now or when it is known what has become of its session. */
  hello(arrival: Arrival, request: ResumeRequest | null): void {
    if (this.turnsAway(arrival, request === null)) return
    if (request === null) {
      this.open(arrival, null)
      return
    }
    const { connection } = arrival
    const tokenHash = hashToken(request.token, connection.transport)
    const session = this.gateway.sessionsById.get(request.session)
    if (!(session instanceof ResumableSession) || !session.accepts(tokenHash)) {
      this.search({ ...arrival, request, tokenHash, token: newToken(), tries: 1 })
      return
    }
    if (session.resumable.user !== arrival.meta.user) {
      this.refuse(arrival)
      return
    }
    const from = session.outputsFrom(request.out, connection)
    if (from === null) {
      this.open(arrival, 'gap')
      return
    }
    this.gateway.counters.resumes[from === request.out ? 'here' : 'gap']++
    this.gateway.tracing.sessionFor(arrival.meta, session)
    session.reattach(connection, tokenHash, request, from)
    this.gateway.tracing.reattached(session)
  }

  /** Greets a client that has had a session of which nothing can be made out. */
  helloUnknown(arrival: Arrival): void {
    if (!this.turnsAway(arrival, true)) this.open(arrival, 'unknown')
  }

  /** True for the number of a session that is about to come. */
  uses(number: number): boolean {
    return this.takings.has(number)
  }

  found(node: LinkedNode, { seek, ...answer }: Found): void {
    const running = this.searches.get(seek)
    if (running === undefined) return
    running.search.answer(node, answer)
    this.conclude(running)
  }

  nodeJoined(node: LinkedNode): void {
    for (const { search, seek } of this.searches.values()) {
      search.ask(node)
      node.link.putJson(RecordType.seek, 0, 0, seek)
    }
  }

  nodeLost(node: LinkedNode): void {
    for (const running of [...this.searches.values()]) {
      running.search.lost(node)
      this.conclude(running)
    }
    for (const [number, taking] of [...this.takings]) if (taking.node === node) this.retry(number, taking)
  }

  /** A record of a session that is about to come. Returns false when there is none. */
  record(
    node: LinkedNode,
    type: number,
    flags: number,
    number: number,
    term: number,
    batch: Buffer,
    start: number,
    end: number,
  ): boolean {
    const taking = this.takings.get(number)
    if (taking === undefined || taking.node !== node || taking.term !== term) return false
    if (type === RecordType.taken) {
      this.takings.delete(number)
      this.taken(number, taking, flags, batch, start, end)
    } else if (type === RecordType.refused) {
      const { code, out = 0 } = parseRefusal(batch.subarray(start, end))
      const { wanted, from } = taking
      if (code === 'GAP' && out > from && wanted.connection.missed !== undefined) {
        this.takings.delete(number)
        this.take(wanted, node, term, out)
      } else if (code === 'GAP') {
        this.takings.delete(number)
        this.drop(node, taking.wanted.request.session, term)
        this.open(taking.wanted, 'gap')
      } else {
        this.retry(number, taking)
      }
    } else {
      return false
    }
    return true
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer)
    this.timer = null
    this.searches.clear()
    this.takings.clear()
  }

  private open(
    { pool, meta, connection, chosen, key }: Arrival,
    notRecovered: ClientWelcome['reason'],
  ): void {
    if (notRecovered !== null) this.gateway.counters.resumes[notRecovered]++
    if (connection.closed) return
    const token = newToken()
    const resume = new Resumable([hashToken(token, meta.transport)], meta.user)
    const session = this.gateway.createSession(
      pool,
      meta,
      chosen,
      (identity) => new ResumableSession(this.gateway, identity, resume),
    )
    session.key = key
    session.greetNew(connection, token, notRecovered)
    this.gateway.assign(session, chosen)
  }

  private turnsAway({ connection }: Arrival, isNew: boolean): boolean {
    if (this.gateway.stopping) connection.close(CloseCode.serviceRestart, 'the gateway stops')
    else if (isNew && this.gateway.refusesNew())
      connection.close(CloseCode.tryAgainLater, 'the gateway is overloaded')
    else return false
    return true
  }

  /** Another user's token is worth nothing, and its session is not told. */
  private refuse({ connection }: Arrival): void {
    this.gateway.counters.resumes.user++
    connection.close(CloseCode.forbidden, 'the session belongs to another user')
  }

  private search(wanted: Wanted): void {
    const { gateway } = this
    const { seekMs, seekUnlinkedMs } = gateway.limits
    const seek: Seek = {
      seek: ++this.lastSeek,
      session: wanted.request.session,
      token: wanted.tokenHash,
      next: hashToken(wanted.token, wanted.connection.transport),
      ...(wanted.meta.user === undefined ? {} : { user: wanted.meta.user }),
    }
    const search = new Search<LinkedNode>(gateway.now(), { answersMs: seekMs, unlinkedMs: seekUnlinkedMs })
    const running = { wanted, seek, search }
    this.searches.set(seek.seek, running)
    // A route may have led to another pool when the session began.
    for (const node of gateway.nodes.linked()) {
      search.ask(node)
      node.link.putJson(RecordType.seek, 0, 0, seek)
    }
    this.timer ??= setInterval(() => this.tick(), tickMs)
    this.conclude(running)
  }

  private conclude({ wanted, seek, search }: RunningSearch): void {
    const result = search.result(this.gateway.now(), this.unlinked())
    if (result === null || !this.searches.delete(seek.seek)) return
    // What was found waits at its node for the client's next connection.
    if (wanted.connection.closed) return
    if (result.found === null) {
      if (result.reason === 'user') this.refuse(wanted)
      else this.open(wanted, result.reason)
      return
    }
    for (const node of result.drop) this.drop(node, seek.session, result.term)
    this.take(wanted, result.found, result.term, wanted.request.out)
  }

  private take(wanted: Wanted, node: LinkedNode, term: number, from: number): void {
    const { gateway } = this
    const number = gateway.nextNumber()
    this.takings.set(number, { wanted, node, term, from, startedAt: gateway.now() })
    const { session } = wanted.request
    node.link.putFields(RecordType.take, 0, number, term, [gateway.limits.clientBufferBytes, from], session)
  }

  private taken(
    number: number,
    { wanted, node, term, from }: Taking,
    flags: number,
    batch: Buffer,
    start: number,
    end: number,
  ) {
    const { gateway } = this
    const { request, tokenHash, token, connection } = wanted
    const infoEnd = start + 8 + readU32(batch, start + 4)
    const info = parseTakenInfo(batch.subarray(start + 8, Math.min(infoEnd, end)))
    const acked = readU32(batch, start)
    const { meta, channels, keys } = info
    const received = Math.max(acked, info.received)
    if (received - acked > uncommittedMax)
      throw new EvenkeelError(
        'RECORD_INVALID',
        `TAKEN.received is more than ${uncommittedMax} beyond its commit`,
      )
    const state = (flags & RecordFlag.state) === 0 ? null : batch.toString('latin1', infoEnd, end)
    // A copy that this gateway has of it is one that it lost to another gateway.
    const former = gateway.sessionsById.get(meta.id)
    if (former instanceof ResumableSession) former.taken()
    const { transport } = connection
    const resume = new Resumable([hashToken(token, transport), tokenHash], meta.user, from)
    // Of a node that does not look at users. The session waits for its own.
    if (meta.user !== wanted.meta.user) this.refuse(wanted)
    const { id, address } = meta
    // Not the pool that its client is led to now: a session stays where it is when a route changes.
    const { pool } = node
    const identity = { number, id, pool, meta: asciiJson(meta), address, transport }
    const session = new ResumableSession(gateway, identity, resume)
    session.key = wanted.key
    gateway.addSession(session)
    gateway.tracing.sessionFor(wanted.meta, session)
    gateway.counters.resumes[from === request.out ? 'taken' : 'gap']++
    const { out, since } = request
    const greeting = {
      connection,
      token,
      recovered: true,
      reason: null,
      out,
      from,
      since: since.bind(request),
    }
    session.takeOver({ node, term, acked, received, keys, state, channels }, greeting)
    gateway.steering.sessionTakenOver(node)
  }

  private retry(number: number, { wanted }: Taking): void {
    this.takings.delete(number)
    if (wanted.connection.closed) return
    if (wanted.tries < triesMax) this.search({ ...wanted, tries: wanted.tries + 1 })
    else this.open(wanted, 'unknown')
  }

  private drop(node: LinkedNode, session: string, term: number): void {
    node.link.putJson(RecordType.drop, 0, 0, { session, term })
  }

  /** Nodes exist that this gateway cannot ask yet. */
  private unlinked(): boolean {
    const { cluster, nodes, limits, now, startedAtMs } = this.gateway
    const known = cluster.registry.entries().filter(({ kind }) => kind === 'node')
    if (known.length === 0) return now() - startedAtMs < limits.seekUnlinkedMs
    return known.some(({ id }) => (nodes.get(id)?.health ?? 'down') === 'down')
  }

  private tick(): void {
    for (const running of [...this.searches.values()]) this.conclude(running)
    const now = this.gateway.now()
    for (const [number, taking] of [...this.takings])
      if (now - taking.startedAt > this.gateway.limits.prepareMs) this.retry(number, taking)
    if (this.searches.size > 0 || this.takings.size > 0 || this.timer === null) return
    clearInterval(this.timer)
    this.timer = null
  }
}
