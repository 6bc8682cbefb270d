import { randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { hostname } from 'node:os'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { untilReport } from '../core/balance/report-moments.ts'
import { judgeSilence, StallDetector } from '../core/health/heartbeat.ts'
import { LinkDialer } from '../link/dial.ts'
import type { Link, LinkHandlers } from '../link/link.ts'
import { LinkCloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { defaultLimits } from '../protocol/limits.ts'
import {
  type DrainOrder,
  type Hello,
  isRunRecord,
  linkProtocolVersion,
  parseSteer,
  RecordType,
  type Refusal,
  type Report,
  type Steer,
  type Welcome,
} from '../protocol/link-records.ts'
import { type ChannelHandler, NodeChannels } from './channels.ts'
import type { Discovery } from './discovery.ts'
import { NodeGroups } from './groups.ts'
import { checkOptions } from './node-options.ts'
import { ResumableSessions } from './resumable-sessions.ts'
import type { RunHandler, RunOptions } from './run-types.ts'
import { NodeRuns } from './runs.ts'
import type { NodeSession } from './session.ts'
import { SessionTable } from './session-table.ts'
import type { Json, NodeOptions, SessionHandlers } from './types.ts'

/** A gateway may be silent this many times longer than a node: only it can re-assign, so leaving early helps nobody. */
const gatewayPatience = 5
/** An id that is still taken after this time belongs to another node, not to our former self. */
const duplicateIdPatienceMs = 10_000

const conflictRetryMs = 1_000
/** Between samples of the event loop's lag; a finer one costs CPU even when nothing happens. */
const lagResolutionMs = 100

interface GatewayLink {
  readonly link: Link
  readonly welcome: Welcome
  readonly sessions: SessionTable
  drained: boolean
  /** STEER records that came. */
  steered: number
}

export interface NodeEvents {
  /** A gateway welcomed this node. */
  connected: [gateway: string]
  /** A link is gone or an attempt failed; the node dials again. */
  disconnected: [error: EvenkeelError]
}

/** A socket-server node: dials its gateways and serves the sessions they assign. Made by `createNode`. */
export class EvenkeelNode extends EventEmitter<NodeEvents> {
  readonly id: string
  private readonly options: Required<Omit<NodeOptions, 'maxSessions' | 'token' | 'redis' | 'load' | 'ca'>> & {
    ca?: string | Uint8Array
    load?: () => number
    redis?: string
    maxSessions?: number
    token: string | undefined
  }
  /** Random for each process. */
  readonly instance = randomBytes(12).toString('base64url')
  private readonly links = new Set<GatewayLink>()
  private readonly dialers = new Map<string, LinkDialer>()
  private discovery: Discovery | null = null
  /** Gateways that are said to be gone. */
  private readonly departed = new Set<string>()
  private stopped = false
  private readonly lag = monitorEventLoopDelay({ resolution: lagResolutionMs })
  private readonly channels: NodeChannels
  /** Rooms and other nodes, for adapters of other protocols. */
  readonly groups = new NodeGroups()
  private readonly resumable: ResumableSessions
  private readonly runs: NodeRuns
  private handlers: SessionHandlers | null = null
  private started = false
  private draining: Promise<void> | null = null
  /** What the gateways are told: set by an operator, or by `drain`. */
  private drainOrder: DrainOrder | null = null
  private drainProgress: (() => void) | null = null
  /** What gateways have given this node to keep for all of them. */
  private canary: string | null = null
  private ticker: NodeJS.Timeout | null = null
  private reportTimer: NodeJS.Timeout | null = null
  private eventLoopLagMs = 0

  constructor(options: NodeOptions) {
    super()
    checkOptions(options)
    this.id = options.id
    this.options = {
      pool: 'default',
      weight: 1,
      gateways: [],
      delivery: 'stream',
      migrate: 'always',
      version: '',
      drainOnSigterm: true,
      logger: console,
      ...options,
      token: options.token ?? (process.env.EVENKEEL_NODE_TOKEN || undefined),
    }
    this.channels = new NodeChannels((message) => this.options.logger.error(`node ${this.id}: ${message}`))
    this.runs = new NodeRuns({
      now,
      changed: () => {
        this.reportSoon()
        this.drainProgress?.()
      },
      draining: () => this.drainOrder !== null || this.stopped,
      error: (message) => this.options.logger.error(`node ${this.id}: ${message}`),
    })
    this.resumable = new ResumableSessions({
      now,
      failed: (session, error, where) => this.failed(session, error, where),
      orphansChanged: () => this.drainProgress?.(),
    })
  }

  /** Sessions at this node: over all gateways, and those whose gateway is gone and whose clients may come back. */
  get sessionCount(): number {
    let count = this.resumable.orphanCount
    for (const { sessions } of this.links) count += sessions.size
    return count
  }

  /** Says what to do with sessions. To be called once, before `start`. Throws CONFLICT on a second call. */
  serve<State extends Json = Json>(handlers: SessionHandlers<State>): this {
    if (this.handlers !== null) throw new EvenkeelError('CONFLICT', 'serve() was called already')
    this.handlers = handlers as unknown as SessionHandlers
    return this
  }

  /**
   * Makes runs (token streams) of this name. To be called before `start`, for up to 64 names; a node that calls `run` alone gets no sessions.
   * Throws BAD_REQUEST naming the argument, CONFLICT for a name that is taken or after `start`.
   */
  run<Request = Json>(name: string, handler: RunHandler<Request>, options: RunOptions = {}): this {
    if (this.started) throw new EvenkeelError('CONFLICT', 'call run() before start()')
    this.runs.offer(name, handler as RunHandler, options)
    return this
  }

  /** Runs that this node makes now, over all gateways. */
  get runCount(): number {
    return this.runs.size
  }

  /**
   * Dials every gateway; resolves with the first link. Gateways that are not there yet are dialled until they are.
   * Throws UNAUTHORIZED (wrong token), RECORD_INVALID (an option the gateway refuses), CONFLICT (the id is taken for 10 s),
   * BAD_REQUEST (neither `serve` nor `run` was called, or versions do not fit).
   */
  start(): Promise<void> {
    if (this.handlers === null && this.runs.offers.length === 0)
      throw new EvenkeelError('BAD_REQUEST', 'call serve() or run() before start()')
    if (this.started) throw new EvenkeelError('CONFLICT', 'start() was called already')
    this.started = true
    this.lag.enable()
    if (this.options.drainOnSigterm) process.on('SIGTERM', this.onSigterm)
    const stall = new StallDetector(defaultLimits.heartbeatMs, defaultLimits.heartbeatMs)
    this.ticker = setInterval(() => this.heartbeat(stall.tick(now())), defaultLimits.heartbeatMs)
    const startedAt = now()
    return new Promise((resolve, reject) => {
      this.once('connected', () => resolve())
      const failed = (error: EvenkeelError) => {
        const isFinal =
          error.code === 'UNAUTHORIZED' ||
          error.code === 'BAD_REQUEST' ||
          error.code === 'RECORD_INVALID' ||
          (error.code === 'CONFLICT' && now() - startedAt > duplicateIdPatienceMs)
        if (!isFinal || this.links.size > 0) return
        this.off('disconnected', failed)
        void this.stop().then(() => reject(error))
      }
      this.on('disconnected', failed)
      this.once('connected', () => this.off('disconnected', failed))
      for (const url of this.options.gateways) this.dial(url)
      if (this.options.redis !== undefined) this.discover(this.options.redis).catch(failed)
    })
  }

  /**
   * Publishes to a channel: its members at all gateways and the nodes that subscribed get it. Not waited for: what no
   * gateway or no bus could take is lost and logged there. Throws BAD_REQUEST (name), TOO_LARGE. Returns false when no gateway is linked.
   */
  publish(channel: string, data: string | Uint8Array): boolean {
    return this.channels.publish(channel, data)
  }

  /** Calls `handler` with what is published to the channel; returns the function that ends it. Throws BAD_REQUEST. */
  subscribe(channel: string, handler: ChannelHandler): () => void {
    return this.channels.subscribe(channel, handler)
  }

  /**
   * Moves every session to other nodes, then closes the links. Resolves when all gateways have taken their sessions away;
   * sessions whose gateway is gone are waited for as long as their clients may come back.
   */
  drain(): Promise<void> {
    this.draining ??= this.drainLinks()
    return this.draining
  }

  /** Closes the links at once; the gateways re-assign what was here. Sessions that no gateway has end. */
  async stop(): Promise<void> {
    process.off('SIGTERM', this.onSigterm)
    if (this.ticker !== null) clearInterval(this.ticker)
    if (this.reportTimer !== null) clearTimeout(this.reportTimer)
    this.lag.disable()
    for (const { link } of this.links) link.flush()
    this.stopped = true
    await Promise.all([...this.dialers.values()].map((dialer) => dialer.stop()))
    this.resumable.close()
    this.runs.close()
    await this.discovery?.close()
  }

  private readonly onSigterm = (): void => {
    if (this.draining !== null) process.exit(1)
    this.options.logger.info(
      `node ${this.id}: draining ${this.sessionCount} sessions; a second SIGTERM exits at once`,
    )
    void this.drain().then(() => process.exit(0))
  }

  private async drainLinks(): Promise<void> {
    const waiting = () =>
      this.resumable.isAwaited ||
      [...this.links].some((entry) => !entry.drained) ||
      [...this.dialers.values()].some((dialer) => dialer.handshaking)
    this.drainOrder ??= { deadlineMs: null, ratePerSecond: null }
    this.reportNow()
    while (waiting()) await new Promise<void>((resolve) => (this.drainProgress = resolve))
    while (this.runs.size > 0) await new Promise<void>((resolve) => (this.drainProgress = resolve))
    await this.handlers?.drained?.()
    await this.stop()
  }

  /** Keeps a link to every gateway that announces itself. */
  private async discover(redis: string): Promise<void> {
    // Redis is loaded by those who use it.
    const { discoverGateways } = await import('./discovery.ts')
    const discovery = {
      redis,
      node: { id: this.id, pool: this.options.pool, instance: this.instance },
      joined: (url: string) => {
        this.departed.delete(url)
        this.dial(url)
      },
      left: (url: string) => this.forget(url),
      warn: (message: string) => this.options.logger.warn(`node ${this.id}: ${message}`),
    }
    for (const until = now() + duplicateIdPatienceMs; !this.stopped; ) {
      try {
        this.discovery = await discoverGateways(discovery)
        break
      } catch (error) {
        // The id of a process that was killed is taken until its lease ends.
        if ((error as EvenkeelError).code !== 'CONFLICT' || now() > until) throw error
        await delay(conflictRetryMs)
      }
    }
    if (this.stopped) await this.discovery?.close()
  }

  /** The gateway is said to be gone. A link that is still there knows better. */
  private forget(url: string): void {
    const dialer = this.dialers.get(url)
    this.departed.add(url)
    if (dialer === undefined || dialer.isUp) return
    this.dialers.delete(url)
    void dialer.stop()
  }

  private dial(url: string): void {
    if (this.dialers.has(url) || this.stopped) return
    const dialer = new LinkDialer({
      url,
      token: this.options.token,
      ca: this.options.ca,
      hello: () => this.hello(),
      now,
      random: Math.random,
      onUp: (link, welcome) => this.linked(link, welcome),
      onDown: (error, retryMs) => {
        this.options.logger.warn(
          `node ${this.id}: ${error.message}; next attempt in ${Math.round(retryMs)} ms`,
        )
        this.drainProgress?.()
        if (this.departed.has(url)) this.forget(url)
        this.emit('disconnected', error)
      },
    })
    this.dialers.set(url, dialer)
    dialer.start()
  }

  private hello(): Hello {
    const { pool, weight, maxSessions, version, migrate } = this.options
    return {
      protocol: linkProtocolVersion,
      id: this.id,
      instance: this.instance,
      pool,
      weight,
      maxSessions: maxSessions ?? null,
      host: hostname(),
      pid: process.pid,
      version,
      migrate,
      peers: this.groups.handlers !== null,
      ...(this.handlers === null ? { sessions: false } : {}),
      ...(this.runs.offers.length === 0 ? {} : { runs: this.runs.offers }),
    }
  }

  private linked(link: Link, welcome: Welcome): LinkHandlers {
    const sessions = new SessionTable({
      link,
      welcome,
      handlers: this.handlers ?? {},
      atomic: this.options.delivery === 'atomic',
      resumable: this.resumable,
      now,
      sizeChanged: () => this.reportSoon(),
      refusal: () => this.refusal(),
      taken: () => (entry.drained = false),
      notJoined: (session, channel) =>
        this.options.logger.warn(
          `node ${this.id}: session ${session.id} did not join ${channel}: it is in as many channels as it may be`,
        ),
      failed: (session, error, where) => this.failed(session, error, where),
    })
    const entry: GatewayLink = { link, welcome, sessions, drained: false, steered: 0 }
    this.resumable.linkUp(welcome.instance)
    this.links.add(entry)
    link.putJson(RecordType.report, 0, 0, this.report(entry))
    this.channels.linkUp(link, welcome.limits.messageBytes)
    this.groups.linkUp(link, welcome.limits.messageBytes)
    this.runs.linkUp(link, welcome.gateway)
    this.emit('connected', welcome.gateway)
    return {
      record: (type, flags, number, term, batch, start, end) => {
        if (type === RecordType.drained) {
          entry.drained = true
          this.drainProgress?.()
        } else if (type === RecordType.steer) {
          entry.steered++
          this.steer(parseSteer(batch.subarray(start, end)))
        } else if (type === RecordType.published) {
          this.channels.published(flags, batch.subarray(start, end))
        } else if (isRunRecord(type)) {
          this.runs.record(link, type, number, term, batch.subarray(start, end))
        } else if (number !== 0 || !this.groups.record(link, type, flags, batch.subarray(start, end))) {
          sessions.record(type, flags, number, term, batch, start, end)
        }
      },
      beforeFlush: () => sessions.writeCommits(),
      drain: () => sessions.wakeAll(),
      close: () => this.unlinked(entry),
    }
  }

  private unlinked(entry: GatewayLink): void {
    this.links.delete(entry)
    this.channels.linkDown(entry.link)
    this.groups.linkDown(entry.link)
    this.runs.linkDown(entry.link)
    const { instance } = entry.welcome
    // A second link to the same process has replaced this one, and its sessions were recovered.
    const isReplaced = [...this.links].some(({ welcome }) => welcome.instance === instance)
    entry.sessions.linkLost(this.stopped || isReplaced ? null : instance)
    this.drainProgress?.()
  }

  /** Why no further session can come, or null. */
  private refusal(): Refusal | null {
    if (this.drainOrder !== null) return { code: 'DRAINING', message: `node ${this.id} is draining` }
    const { maxSessions = Number.POSITIVE_INFINITY } = this.options
    if (this.sessionCount < maxSessions) return null
    return { code: 'FULL', message: `node ${this.id} holds its maximum of ${maxSessions} sessions` }
  }

  private failed(session: NodeSession, error: unknown, where: string): void {
    this.options.logger.error(
      `node ${this.id}: the ${where} handler of session ${session.id} failed: ${String((error as Error)?.stack ?? error)}`,
    )
  }

  /** What an operator wants, by way of one gateway; the report tells the others. */
  private steer({ weight, drain, canary }: Steer): void {
    if (weight !== undefined) this.options.weight = weight
    if (canary !== undefined) this.canary = canary
    // A node that is leaving stays so.
    if (drain !== undefined && this.draining === null) {
      this.drainOrder = drain
      for (const entry of this.links) entry.drained = false
    }
    this.reportNow()
  }

  private report({ steered }: GatewayLink): Report {
    const gateways: Record<string, number> = {}
    for (const { welcome, sessions } of this.links) gateways[welcome.gateway] = sessions.size
    const { weight } = this.options
    const runs = this.runs.offers.length === 0 ? {} : { runs: this.runs.counts() }
    const { eventLoopLagMs, drainOrder: drain } = this
    const canary = this.canary === null ? {} : { canary: this.canary }
    return { gateways, eventLoopLagMs, weight, drain, steered, ...runs, ...this.ownLoad(), ...canary }
  }

  /** Nothing when the application does not say, or says what is no load. */
  private ownLoad(): { load?: number } {
    const { load, logger } = this.options
    if (load === undefined) return {}
    try {
      const value = load()
      if (Number.isFinite(value) && value >= 0) return { load: value }
      logger.error(`node ${this.id}: load() returned ${value}; return a number, 0 or more`)
    } catch (error) {
      logger.error(`node ${this.id}: load() failed: ${String((error as Error)?.stack ?? error)}`)
    }
    return {}
  }

  private reportNow(): void {
    for (const entry of this.links) entry.link.putJson(RecordType.report, 0, 0, this.report(entry))
  }

  /** Gateways balance by what the others have given this node: they hear of it soon. */
  private reportSoon(): void {
    if (this.links.size < 2) return
    this.reportTimer ??= setTimeout(() => {
      this.reportTimer = null
      this.reportNow()
    }, untilReport(Date.now()))
  }

  private heartbeat(stalled: boolean): void {
    const eventLoopLagMs = this.lag.mean > 0 ? Math.max(0, this.lag.mean / 1e6 - lagResolutionMs) : 0
    this.lag.reset()
    this.eventLoopLagMs = Math.round(eventLoopLagMs * 100) / 100
    this.resumable.expire()
    this.runs.expire()
    for (const entry of this.links) {
      const { link, welcome } = entry
      if (stalled) link.lastHeardAt = now()
      const times = { suspectMs: welcome.suspectMs, downMs: welcome.downMs * gatewayPatience }
      if (judgeSilence(now() - link.lastHeardAt, times) === 'down') {
        link.close(LinkCloseCode.silent, 'gateway silent')
        continue
      }
      link.ping()
      link.putJson(RecordType.report, 0, 0, this.report(entry))
      link.checkCongestion()
    }
  }
}

function now(): number {
  return performance.now()
}
