import type { Link } from '../link/link.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { defaultLimits } from '../protocol/limits.ts'
import { isName, parseRunOrder, RecordType, type RunOffer, readU32 } from '../protocol/link-records.ts'
import { ProducingRun, parseEmitted } from './producing-run.ts'
import type { RunDelta, RunHandler, RunOptions } from './run-types.ts'
import type { Json } from './types.ts'

export interface NodeRunsOptions {
  now: () => number
  /** How many runs there are has changed. */
  changed(): void
  /** Nothing new is taken. */
  draining(): boolean
  error(message: string): void
}

interface Offered extends RunOffer {
  readonly handler: RunHandler
  producing: number
}

interface LinkedRuns {
  readonly gateway: string
  readonly byNumber: Map<number, ProducingRun>
  /** Of a run that is to be continued; its RUN follows. */
  readonly emitted: Map<number, Required<RunDelta>[]>
}

/** Numbers below are the gateway's. */
const ownNumbersLeast = 2 ** 31

/** The runs that this node makes, over all its links. */
export class NodeRuns {
  private readonly options: NodeRunsOptions
  private readonly offered = new Map<string, Offered>()
  private readonly links = new Map<Link, LinkedRuns>()
  private readonly runs = new Set<ProducingRun>()
  private dirty = new Set<ProducingRun>()
  private scheduled = false
  private lastNumber = ownNumbersLeast

  constructor(options: NodeRunsOptions) {
    this.options = options
  }

  get offers(): RunOffer[] {
    return [...this.offered.values()].map(({ name, concurrency, onLoss }) => ({ name, concurrency, onLoss }))
  }

  /** Runs whose end is not logged. */
  get size(): number {
    return this.runs.size
  }

  /** Throws BAD_REQUEST, CONFLICT. */
  offer(
    name: string,
    handler: RunHandler,
    { onLoss, concurrency = defaultLimits.runConcurrency }: RunOptions,
  ): void {
    const fail = (message: string): never => {
      throw new EvenkeelError('BAD_REQUEST', `run: ${message}`)
    }
    if (!isName(name)) fail('name must be 1 to 64 of A-Z a-z 0-9 . _ : -')
    if (onLoss !== undefined && !['continue', 'restart', 'fail'].includes(onLoss))
      fail("onLoss must be 'continue', 'restart' or 'fail'")
    if (!Number.isSafeInteger(concurrency) || concurrency < 1)
      fail('concurrency must be a whole number from 1')
    if (typeof handler !== 'function') fail('the handler must be a function')
    if (this.offered.has(name)) throw new EvenkeelError('CONFLICT', `run('${name}') was called already`)
    this.offered.set(name, { name, handler, onLoss: onLoss ?? 'auto', concurrency, producing: 0 })
  }

  /** By name and gateway, for REPORT; a run whose handler has ended takes no place. */
  counts(): Record<string, Record<string, number>> {
    const counts: Record<string, Record<string, number>> = {}
    for (const { name, at, producing } of this.runs) {
      if (!producing) continue
      counts[name] ??= {}
      const ofName = counts[name]
      const gateway = at?.gateway ?? ''
      ofName[gateway] = (ofName[gateway] ?? 0) + 1
    }
    return counts
  }

  linkUp(link: Link, gateway: string): void {
    this.links.set(link, { gateway, byNumber: new Map(), emitted: new Map() })
    for (const run of this.runs) if (run.at === null) this.attach(run, link)
  }

  linkDown(link: Link): void {
    const linked = this.links.get(link)
    if (linked === undefined) return
    this.links.delete(link)
    const [other] = this.links.keys()
    for (const run of linked.byNumber.values()) {
      run.detach(this.options.now())
      if (other !== undefined) this.attach(run, other)
    }
  }

  /** Returns false for records that are not of runs. Throws RECORD_INVALID. */
  record(link: Link, type: number, number: number, epoch: number, body: Buffer): boolean {
    if (type < RecordType.run || type > RecordType.logged) return false
    const linked = this.links.get(link)
    if (linked === undefined) return true
    const run = linked.byNumber.get(number)
    if (type === RecordType.run) this.take(link, linked, number, epoch, body)
    else if (type === RecordType.emitted) {
      // Behind the epoch that made them.
      const events = parseEmitted(body.toString('utf8', 4))
      const known = linked.emitted.get(number)
      if (known === undefined) linked.emitted.set(number, events)
      else for (const event of events) known.push(event)
    } else if (run?.epoch === epoch) {
      if (type === RecordType.logged) run.acknowledged(readU32(body, 0))
      else run.stop()
    } else if (type === RecordType.stop) linked.emitted.delete(number)
    return true
  }

  /** Gives up what has had no gateway for too long. To be called now and then. */
  expire(): void {
    const before = this.options.now() - defaultLimits.runDetachedMs
    for (const run of [...this.runs]) if (run.at === null && run.detachedSince < before) run.stop()
  }

  close(): void {
    for (const run of [...this.runs]) run.stop()
  }

  private take(link: Link, linked: LinkedRuns, number: number, epoch: number, body: Buffer): void {
    const orderEnd = 4 + readU32(body, 0)
    if (orderEnd > body.length)
      throw new EvenkeelError('RECORD_INVALID', 'RUN: the order is longer than the record')
    const order = parseRunOrder(body.subarray(4, orderEnd), 'RUN')
    const emitted = linked.emitted.get(number) ?? []
    linked.emitted.delete(number)
    const offered = this.offered.get(order.name)
    // An attempt of the same run that goes on here was fenced off by this one.
    for (const other of [...this.runs]) if (other.run === order.run && other.epoch < epoch) other.stop()
    if (offered === undefined || offered.producing >= offered.concurrency || this.options.draining()) {
      link.put(RecordType.decline, 0, number, epoch)
      return
    }
    const request = parseRequest(body.toString('utf8', orderEnd))
    const at = { link, number, gateway: linked.gateway }
    const run = new ProducingRun(
      {
        ...order,
        epoch,
        request,
        emitted,
        handler: offered.handler,
        dirty: (one) => this.writeLater(one),
        handlerEnded: () => {
          offered.producing--
          this.options.changed()
        },
        ended: (one) => this.ended(one),
        failed: (one, error) =>
          this.options.error(
            `the handler of run ${one.run} (${one.name}) failed: ${String((error as Error)?.stack ?? error)}`,
          ),
      },
      at,
    )
    offered.producing++
    this.runs.add(run)
    linked.byNumber.set(number, run)
    this.options.changed()
    void run.produce()
  }

  private attach(run: ProducingRun, link: Link): void {
    const linked = this.links.get(link)!
    this.lastNumber = this.lastNumber >= 2 ** 32 - 1 ? ownNumbersLeast : this.lastNumber + 1
    linked.byNumber.set(this.lastNumber, run)
    run.attach({ link, number: this.lastNumber, gateway: linked.gateway })
  }

  private writeLater(run: ProducingRun): void {
    this.dirty.add(run)
    if (this.scheduled) return
    this.scheduled = true
    // Behind the microtasks of handlers that have more to yield in this turn, and before links flush.
    setImmediate(() => {
      this.scheduled = false
      const { dirty } = this
      this.dirty = new Set()
      for (const one of dirty) one.write()
      for (const link of this.links.keys()) link.flush()
    })
  }

  private ended(run: ProducingRun): void {
    this.runs.delete(run)
    if (run.at !== null) this.links.get(run.at.link)?.byNumber.delete(run.at.number)
    this.options.changed()
  }
}

function parseRequest(json: string): Json {
  try {
    return JSON.parse(json) as Json
  } catch {
    throw new EvenkeelError('RECORD_INVALID', 'RUN: the request is not JSON')
  }
}
