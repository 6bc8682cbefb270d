import { randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { hostname } from 'node:os'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { judgeSilence, StallDetector } from '../core/health/heartbeat.ts'
import { LinkDialer } from '../link/dial.ts'
import type { Link, LinkHandlers } from '../link/link.ts'
import { LinkCloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { defaultLimits } from '../protocol/limits.ts'
import {
  type Hello,
  isWeight,
  linkProtocolVersion,
  RecordType,
  type Welcome,
} from '../protocol/link-records.ts'
import { SessionTable } from './session-table.ts'
import type { Json, NodeOptions, SessionHandlers } from './types.ts'

/** A gateway may be silent this many times longer than a node: only it can re-assign, so leaving early helps nobody. */
const gatewayPatience = 5
/** An id that is still taken after this time belongs to another node, not to our former self. */
const duplicateIdPatienceMs = 10_000

interface GatewayLink {
  readonly link: Link
  readonly welcome: Welcome
  readonly sessions: SessionTable
  drained: boolean
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
  private readonly options: Required<Omit<NodeOptions, 'maxSessions' | 'token'>> & {
    maxSessions?: number
    token: string | undefined
  }
  private readonly instance = randomBytes(12).toString('base64url')
  private readonly links = new Set<GatewayLink>()
  private readonly dialers: LinkDialer[] = []
  private readonly lag = monitorEventLoopDelay({ resolution: 20 })
  private handlers: SessionHandlers | null = null
  private started = false
  private draining: Promise<void> | null = null
  private drainProgress: (() => void) | null = null
  private ticker: NodeJS.Timeout | null = null

  constructor(options: NodeOptions) {
    super()
    checkOptions(options)
    this.id = options.id
    this.options = {
      pool: 'default',
      weight: 1,
      delivery: 'stream',
      version: '',
      drainOnSigterm: true,
      logger: console,
      ...options,
      token: options.token ?? (process.env.EVENKEEL_NODE_TOKEN || undefined),
    }
  }

  /** Sessions at this node, over all gateways. */
  get sessionCount(): number {
    let count = 0
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
   * Dials every gateway; resolves with the first link. Gateways that are not there yet are dialled until they are.
   * Throws UNAUTHORIZED (wrong token), RECORD_INVALID (an option the gateway refuses), CONFLICT (the id is taken for 10 s),
   * BAD_REQUEST (`serve` was not called, or versions do not fit).
   */
  start(): Promise<void> {
    if (this.handlers === null) throw new EvenkeelError('BAD_REQUEST', 'call serve() before start()')
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
    })
  }

  /** Moves every session to other nodes, then closes the links. Resolves when all gateways have taken their sessions away. */
  drain(): Promise<void> {
    this.draining ??= this.drainLinks()
    return this.draining
  }

  /** Closes the links at once; the gateways re-assign what was here. */
  async stop(): Promise<void> {
    process.off('SIGTERM', this.onSigterm)
    if (this.ticker !== null) clearInterval(this.ticker)
    this.lag.disable()
    for (const { link } of this.links) link.flush()
    await Promise.all(this.dialers.map((dialer) => dialer.stop()))
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
      [...this.links].some((entry) => !entry.drained) || this.dialers.some((dialer) => dialer.handshaking)
    for (const entry of this.links) {
      // An operator may have drained this node before, and activated it again.
      entry.drained = false
      entry.link.put(RecordType.drain, 0, 0, 0)
    }
    while (waiting()) await new Promise<void>((resolve) => (this.drainProgress = resolve))
    await this.stop()
  }

  private dial(url: string): void {
    const dialer = new LinkDialer({
      url,
      token: this.options.token,
      hello: () => this.hello(),
      now,
      random: Math.random,
      onUp: (link, welcome) => this.linked(link, welcome),
      onDown: (error, retryMs) => {
        this.options.logger.warn(
          `node ${this.id}: ${error.message}; next attempt in ${Math.round(retryMs)} ms`,
        )
        this.drainProgress?.()
        this.emit('disconnected', error)
      },
    })
    this.dialers.push(dialer)
    dialer.start()
  }

  private hello(): Hello {
    const { pool, weight, maxSessions, version } = this.options
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
    }
  }

  private linked(link: Link, welcome: Welcome): LinkHandlers {
    const sessions = new SessionTable({
      link,
      welcome,
      handlers: this.handlers!,
      atomic: this.options.delivery === 'atomic',
      now,
      refusal: () => {
        if (this.draining !== null) return { code: 'DRAINING', message: `node ${this.id} is draining` }
        if (this.sessionCount >= (this.options.maxSessions ?? Number.POSITIVE_INFINITY)) {
          return {
            code: 'FULL',
            message: `node ${this.id} holds its maximum of ${this.options.maxSessions} sessions`,
          }
        }
        return null
      },
      failed: (session, error, where) =>
        this.options.logger.error(
          `node ${this.id}: the ${where} handler of session ${session.id} failed: ${String((error as Error)?.stack ?? error)}`,
        ),
    })
    const entry: GatewayLink = { link, welcome, sessions, drained: false }
    this.links.add(entry)
    if (this.draining !== null) link.put(RecordType.drain, 0, 0, 0)
    this.emit('connected', welcome.gateway)
    return {
      record: (type, flags, session, term, batch, start, end) => {
        if (type === RecordType.drained) {
          entry.drained = true
          this.drainProgress?.()
        } else {
          sessions.record(type, flags, session, term, batch, start, end)
        }
      },
      beforeFlush: () => sessions.writeCommits(),
      drain: () => sessions.wakeAll(),
      close: () => {
        this.links.delete(entry)
        sessions.linkLost()
        this.drainProgress?.()
      },
    }
  }

  private heartbeat(stalled: boolean): void {
    const eventLoopLagMs = this.lag.mean > 0 ? Math.max(0, this.lag.mean / 1e6 - 20) : 0
    this.lag.reset()
    const report = { sessions: this.sessionCount, eventLoopLagMs: Math.round(eventLoopLagMs * 100) / 100 }
    for (const { link, welcome } of this.links) {
      if (stalled) link.lastHeardAt = now()
      const times = { suspectMs: welcome.suspectMs, downMs: welcome.downMs * gatewayPatience }
      if (judgeSilence(now() - link.lastHeardAt, times) === 'down') {
        link.close(LinkCloseCode.silent, 'gateway silent')
        continue
      }
      link.ping()
      link.putJson(RecordType.report, 0, 0, report)
      link.checkCongestion()
    }
  }
}

function now(): number {
  return performance.now()
}

function checkOptions(options: NodeOptions): void {
  const name = /^[A-Za-z0-9._:-]{1,64}$/
  const fail = (message: string): never => {
    throw new EvenkeelError('BAD_REQUEST', `createNode: ${message}`)
  }
  if (!name.test(options.id ?? '')) fail('id must be 1 to 64 of A-Z a-z 0-9 . _ : -')
  if (options.pool !== undefined && !name.test(options.pool))
    fail('pool must be 1 to 64 of A-Z a-z 0-9 . _ : -')
  if (options.weight !== undefined && !isWeight(options.weight))
    fail('weight must be above 0, at most 1000000')
  if (
    options.maxSessions !== undefined &&
    !(Number.isSafeInteger(options.maxSessions) && options.maxSessions > 0)
  ) {
    fail('maxSessions must be a whole number from 1')
  }
  if (options.delivery !== undefined && options.delivery !== 'stream' && options.delivery !== 'atomic') {
    fail("delivery must be 'stream' or 'atomic'")
  }
  if (!Array.isArray(options.gateways) || options.gateways.length === 0) {
    fail("gateways must name at least one gateway, such as 'ws://127.0.0.1:8081'")
  }
  for (const url of options.gateways) {
    if (!URL.canParse(url) || !/^wss?:$/.test(new URL(url).protocol))
      fail(`gateways: ${url} is not a ws: or wss: URL`)
  }
}
