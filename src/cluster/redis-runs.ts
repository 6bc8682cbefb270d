import { encodeEvent, type RawEntry } from '../core/run/entry.ts'
import type { EndEvent, FailEvent, RunStatus } from '../core/run/events.ts'
import { type FinishCondition, type Outcome, outcomeOf, producerLost } from '../core/run/log-state.ts'
import { type Offset, parseOffset } from '../core/run/offset.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Limits } from '../protocol/limits.ts'
import type { LossPolicy } from '../protocol/link-records.ts'
import { parseRunTrace, type RunTrace } from '../protocol/trace-context.ts'
import { RedisQueues } from './redis-run-queues.ts'
import { loadScript } from './redis-script.ts'
import type { RedisServers } from './redis-servers.ts'
import type { RedisSubscriptions } from './redis-subscriptions.ts'
import type {
  AppendAnswer,
  AppendRequest,
  Attached,
  ClaimAnswer,
  ClaimRequest,
  FinishAnswer,
  NamedRun,
  NewRun,
  RevivedRun,
  RunLimit,
  RunLogs,
  RunPage,
} from './run-log.ts'

export interface RedisRunsOptions {
  servers: RedisServers
  subscriptions: RedisSubscriptions
  prefix: string
  limits: Pick<Limits, RunLimit>
}

const scripts = {
  name: loadScript('run-name'),
  create: loadScript('run-create'),
  discard: loadScript('run-discard'),
  claim: loadScript('run-claim'),
  append: loadScript('run-append'),
  finish: loadScript('run-finish'),
  hold: loadScript('run-hold'),
  revive: loadScript('run-revive'),
  read: loadScript('run-read'),
}

const pageHeadFields = 9

/** Logs of runs in Redis Streams, PROTOCOL.md §5.6. */
export class RedisRuns implements RunLogs {
  readonly isRemote = true
  readonly queues: RedisQueues
  private readonly options: RedisRunsOptions

  constructor(options: RedisRunsOptions) {
    this.options = options
    this.queues = new RedisQueues(options)
  }

  async name(lane: string, key: string, named: NamedRun): Promise<NamedRun> {
    const { servers, prefix, limits } = this.options
    const args = [named.run, named.hash, limits.runKeyMs]
    const [run, hash] = (await servers.run(
      scripts.name,
      [`${prefix}run-key:${lane}:${key}`],
      args,
    )) as string[]
    return { run: run!, hash: hash! }
  }

  async label(label: string, run: string): Promise<void> {
    const key = this.labelKey(label)
    await this.options.servers.call(key, 'SET', [key, run, 'PX', this.options.limits.runIdleMs])
  }

  async labelled(label: string): Promise<string | null> {
    const key = this.labelKey(label)
    const run = await this.options.servers.call(key, 'GET', [key])
    return run === null ? null : String(run)
  }

  async create(run: string, { lane, requestJson, trace }: NewRun): Promise<void> {
    await this.run('create', run, [lane, requestJson, this.options.limits.runIdleMs, traceText(trace)])
  }

  async discard(run: string): Promise<void> {
    await this.run('discard', run, [])
  }

  async claim(run: string, { holder, job, onLoss, epoch }: ClaimRequest): Promise<ClaimAnswer> {
    const { runLeaseMs, runLossesMost, runTtlMs, runIdleMs } = this.options.limits
    const [result, ...rest] = (await this.run('claim', run, [
      ...this.publishing(run),
      holder,
      job,
      onLoss,
      epoch ?? '',
      runLeaseMs,
      runLossesMost,
      encodeEvent(producerLost()),
      runTtlMs,
      runIdleMs,
    ])) as [string, ...(string | number)[]]
    if (result !== 'claimed') return { result: result as 'missing' | 'ended' | 'held' | 'failed' }
    const [claimed, base, requestJson, trace, queuedMs] = rest
    return {
      result,
      epoch: Number(claimed),
      base: base === '' ? null : parseOffset(String(base)),
      requestJson: String(requestJson),
      // Another version of a gateway may have made the run.
      trace: parseRunTrace(String(trace ?? '')),
      queuedMs: Number(queuedMs),
    }
  }

  async append(run: string, { holder, entry, effects, terminal }: AppendRequest): Promise<AppendAnswer> {
    const { runLeaseMs, runLogBytes, runTtlMs } = this.options.limits
    const { epoch, first, count, json } = entry
    const answer = (await this.run('append', run, [
      ...this.publishing(run),
      holder,
      epoch,
      first,
      count,
      json,
      effects ? 1 : 0,
      terminal ?? '',
      runLeaseMs,
      runLogBytes,
      runTtlMs,
    ])) as [string, number | string]
    return { result: answer[0] as AppendAnswer['result'], seq: Number(answer[1]) }
  }

  async finish(run: string, event: EndEvent | FailEvent, when: FinishCondition): Promise<FinishAnswer> {
    const args = [...this.publishing(run), encodeEvent(event), outcomeOf(event), when]
    const answer = (await this.run('finish', run, [...args, this.options.limits.runTtlMs])) as string[]
    const [result, lane, job, holder] = answer as [FinishAnswer['result'], string, string, string]
    return { result, lane, job, holder }
  }

  async renew(run: string, holder: string, epoch: number): Promise<boolean> {
    return (await this.hold('renew', run, holder, epoch)).length > 0
  }

  async attach(run: string, holder: string, epoch: number): Promise<Attached | null> {
    const held = await this.hold('attach', run, holder, epoch)
    const [seq, job, onLoss, lane, last, effects, requestJson, trace] = held
    if (seq === undefined) return null
    return {
      seq: Number(seq),
      job: job!,
      onLoss: onLoss as LossPolicy,
      lane: lane!,
      requestJson: requestJson!,
      trace: parseRunTrace(trace ?? ''),
      touched: last !== '0-0',
      effects: effects === '1',
    }
  }

  async revive(run: string, revived: RevivedRun): Promise<boolean> {
    const { lane, requestJson, trace, holder, job, onLoss, epoch } = revived
    const { runLeaseMs, runIdleMs } = this.options.limits
    const args = [
      ...this.publishing(run),
      lane,
      requestJson,
      holder,
      job,
      onLoss,
      epoch,
      runLeaseMs,
      runIdleMs,
      traceText(trace),
    ]
    return (await this.run('revive', run, args)) === 1
  }

  async release(run: string, holder: string, epoch: number, lost: boolean): Promise<boolean> {
    return (await this.hold(lost ? 'lose' : 'release', run, holder, epoch)).length > 0
  }

  async read(run: string, after: Offset, bytesMost: number): Promise<RunPage | null> {
    const reply = (await this.run('read', run, [after.epoch, after.seq, bytesMost])) as string[]
    if (reply.length === 0) return null
    const [status, outcome, lane, epoch, seq, start, leaseLeftMs, queuedMs, more] = reply
    const entries: RawEntry[] = []
    for (let i = pageHeadFields; i + 2 < reply.length; i += 3) {
      const last = parseOffset(reply[i]!)
      const first = Number(reply[i + 1])
      if (last === null || !(first <= last.seq))
        throw new EvenkeelError('INTERNAL', `the log of run ${run} has an entry that is none`)
      entries.push({ epoch: last.epoch, first, count: last.seq - first + 1, json: reply[i + 2]! })
    }
    return {
      status: status as RunStatus,
      outcome: outcome === '' ? null : (outcome as Outcome),
      lane: lane!,
      head: { epoch: Number(epoch), seq: Number(seq) },
      start: parseOffset(start!)!,
      entries,
      more: more === '1',
      leaseLeftMs: Number(leaseLeftMs),
      queuedMs: Number(queuedMs),
    }
  }

  async follow(run: string, listener: (entry: RawEntry) => void): Promise<void> {
    await this.options.subscriptions.subscribe(this.channel(run), (payload) => {
      const entry = parseLive(payload.toString())
      if (entry !== null) listener(entry)
    })
  }

  async unfollow(run: string): Promise<void> {
    await this.options.subscriptions.unsubscribe(this.channel(run))
  }

  private async hold(what: string, run: string, holder: string, epoch: number): Promise<string[]> {
    const { runLeaseMs, runIdleMs } = this.options.limits
    return (await this.run('hold', run, [what, holder, epoch, runLeaseMs, runIdleMs])) as string[]
  }

  private run(
    script: keyof typeof scripts,
    run: string,
    args: readonly (string | number)[],
  ): Promise<unknown> {
    const base = this.base(run)
    return this.options.servers.run(scripts[script], [`${base}record`, `${base}log`], args)
  }

  private publishing(run: string): [channel: string, command: string] {
    return [this.channel(run), this.options.servers.sharded ? 'SPUBLISH' : 'PUBLISH']
  }

  private channel(run: string): string {
    return `${this.base(run)}live`
  }

  private labelKey(label: string): string {
    return `${this.options.prefix}run-label:${label}`
  }

  private base(run: string): string {
    return `${this.options.prefix}run:{${run}}:`
  }
}

function traceText(trace: RunTrace | null | undefined): string {
  return trace == null ? '' : JSON.stringify(trace)
}

/** `<epoch> <first> <count> <events>`; null for anything else. */
function parseLive(text: string): RawEntry | null {
  const match = /^(\d{1,10}) (\d{1,10}) (\d{1,10}) /.exec(text)
  if (match === null) return null
  const [head, epoch, first, count] = match
  return { epoch: Number(epoch), first: Number(first), count: Number(count), json: text.slice(head.length) }
}
