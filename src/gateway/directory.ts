import { isDeepStrictEqual } from 'node:util'
import { DnsDiscovery, type FoundServer } from '../cluster/dns-discovery.ts'
import { lookupAddresses } from '../cluster/name-lookup.ts'
import type { SharedUpstreams, StoredUpstreams } from '../cluster/upstreams.ts'
import { parseBlock } from '../core/net/address.ts'
import { type AddressRules, refusalOfAddress } from '../core/net/address-rules.ts'
import {
  defaultUpstreamId,
  isTcpUrl,
  isUpstreamId,
  originOfUrl,
  parseUpstreamUrl,
  upstreamIdRule,
  upstreamUrlRule,
} from '../core/net/upstream-url.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { type DrainOrder, isWeight } from '../protocol/link-records.ts'
import { configuredSpecs, foundSpecs, isSameServer, mergeSpecs, storedSpec } from './directory-lists.ts'
import { DirectoryMember, type UpstreamSpec } from './directory-member.ts'
import { type AddressFinder, findAddress } from './upstream-address.ts'
import type {
  NewUpstream,
  Upstream,
  UpstreamAddress,
  UpstreamChange,
  UpstreamCounters,
  UpstreamDirectory,
  UpstreamOutcome,
  UpstreamPool,
  UpstreamView,
} from './upstream-directory.ts'
import { probeTickMs, UpstreamProbes, type UpstreamProbesOptions } from './upstream-probes.ts'

export interface DirectoryOptions {
  pools: readonly UpstreamPool[]
  /** What is added and set for all gateways. */
  shared: SharedUpstreams
  probe: UpstreamProbesOptions['probe']
  /** Why an address may not be an upstream though its kind may be one: this gateway itself. Default: none. */
  refuse?: (address: UpstreamAddress) => string | null
  /** Whether an id that somebody wants to add is that of something else. Default: none is. */
  isTaken?: (id: string) => boolean
  /** The addresses of a host; default as the system does. */
  lookup?: AddressFinder['lookup']
  /** An upstream or an answer that cannot be used; never holds a secret. Default: nobody is told. */
  onProblem?: (problem: EvenkeelError) => void
  /** Milliseconds that only grow; default `performance.now`. */
  now?: () => number
  random?: () => number
}

/** A host name is looked up again after this time … */
const lookupEveryMs = 30_000
/** … and sooner while it has no usable address. */
const lookupAgainMs = 2_000
const lookupsAtOnce = 16

interface Pool {
  readonly settings: UpstreamPool
  readonly allowed: AddressRules['allowed']
  readonly configured: readonly UpstreamSpec[]
  readonly discovery: DnsDiscovery | null
  found: readonly UpstreamSpec[]
  /** DNS has answered, or failed to. */
  answered: boolean
}

/** Finds the upstreams of this gateway's pools, checks where they are, and knows how they are. */
export class Directory implements UpstreamDirectory {
  private readonly options: DirectoryOptions
  private readonly finder: AddressFinder
  private readonly now: () => number
  private readonly onProblem: (problem: EvenkeelError) => void
  private pools = new Map<string, Pool>()
  private readonly members = new Map<string, DirectoryMember>()
  private readonly probes: UpstreamProbes
  private readonly listeners = new Set<(change: UpstreamChange) => void>()
  private readonly waiting = new Set<() => void>()
  private queue: UpstreamChange[] = []
  private stored: StoredUpstreams = { upstreams: new Map(), settings: new Map() }
  /** What was complained about, so that each is reported once. */
  private complaints = new Set<string>()
  private sharedIsRead = false
  private lookups = 0
  private timer: NodeJS.Timeout | null = null
  private unwatch: (() => void) | null = null
  private closed = false

  /** Throws CONFIG_INVALID. */
  constructor(options: DirectoryOptions) {
    this.options = options
    this.finder = { lookup: options.lookup ?? lookupAddresses, refuse: options.refuse ?? (() => null) }
    this.now = options.now ?? (() => performance.now())
    this.onProblem = options.onProblem ?? (() => {})
    for (const settings of options.pools) this.pools.set(settings.name, this.createPool(settings, null))
    this.probes = new UpstreamProbes({
      members: this.members,
      settings: (pool) => this.pools.get(pool)!.settings.probe,
      probe: options.probe,
      now: this.now,
      random: options.random ?? Math.random,
      changed: (ids) => this.changed(ids),
    })
  }

  /**
   * Has these pools from now on. An upstream that is on no list any more is removed, and so is one whose address may not be used any more.
   * Throws CONFIG_INVALID, with nothing changed.
   */
  configure(pools: readonly UpstreamPool[]): void {
    if (this.closed) return
    const former = this.pools
    this.pools = new Map(
      pools.map((settings): [string, Pool] => {
        const known = former.get(settings.name)
        const isSame = known !== undefined && isDeepStrictEqual(known.settings, settings)
        return [settings.name, isSame ? known : this.createPool(settings, known ?? null)]
      }),
    )
    const kept = new Set([...this.pools.values()].map(({ discovery }) => discovery))
    for (const { discovery } of former.values()) if (!kept.has(discovery)) discovery?.close()
    if (this.timer === null) return
    const known = new Set([...former.values()].map(({ discovery }) => discovery))
    for (const { discovery } of this.pools.values()) if (!known.has(discovery)) discovery?.start()
    for (const member of this.members.values()) this.adjust(member)
    this.reconcile()
    this.tick()
  }

  /** The member by the settings that its pool has now. */
  private adjust(member: DirectoryMember): void {
    const { spec, address, probe } = member
    const pool = this.pools.get(spec.pool)
    if (pool === undefined) return
    probe.rules = pool.settings.probe
    const { allowed } = pool
    const isRefused =
      address !== null && refusalOfAddress(address.host, { allowed, loopback: spec.loopback }) !== null
    // What is wanted of it is added anew, and looked up by the new rules.
    if (isRefused) this.drop(member)
    else if (address === null) member.lookAt = Number.NEGATIVE_INFINITY
  }

  get started(): boolean {
    return this.timer !== null
  }

  start(): void {
    this.unwatch = this.options.shared.watch((content) => {
      this.stored = content
      this.reconcile()
    })
    for (const { discovery } of this.pools.values()) discovery?.start()
    this.reconcile()
    this.timer = setInterval(() => this.tick(), probeTickMs)
    this.tick()
  }

  /**
   * Resolves when what is shared was read and each upstream that is known then, also from the first answer of DNS, was probed once or
   * has no address; or after `withinMs`. A gateway that takes clients before could give them to one that is drained.
   */
  async settled(withinMs = 5_000): Promise<void> {
    void this.options.shared.settled().then(() => {
      this.sharedIsRead = true
      this.wakeSettled()
    })
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.waiting.delete(done)
        resolve()
      }
      const timer = setTimeout(done, withinMs)
      this.waiting.add(done)
    })
  }

  close(): void {
    this.closed = true
    this.unwatch?.()
    if (this.timer !== null) clearInterval(this.timer)
    for (const { discovery } of this.pools.values()) discovery?.close()
    this.listeners.clear()
    for (const member of this.members.values()) member.running = null
    for (const done of [...this.waiting]) done()
  }

  get counters(): Readonly<UpstreamCounters> {
    return this.probes.counters
  }

  // For sessions.

  all(): readonly Upstream[] {
    return [...this.members.values()].flatMap(({ published }) => published ?? [])
  }

  get(id: string): Upstream | undefined {
    return this.members.get(id)?.published ?? undefined
  }

  onChange(listener: (change: UpstreamChange) => void): () => void {
    const own = (change: UpstreamChange) => listener(change)
    this.listeners.add(own)
    return () => this.listeners.delete(own)
  }

  report(id: string, outcome: UpstreamOutcome): void {
    const member = this.members.get(id)
    if (member !== undefined && !this.closed) this.probes.report(member, outcome)
  }

  setWeight(id: string, weight: number): void {
    const member = this.members.get(id)
    if (member === undefined) return
    this.options.shared.set(id, { weight: weight === member.spec.weight ? null : weight })
    member.weight = weight
    this.publish(member)
  }

  setDrain(id: string, drain: DrainOrder | null): void {
    const member = this.members.get(id)
    if (member === undefined) return
    this.options.shared.set(id, { drain })
    member.drain = drain
    this.publish(member)
  }

  // For operators.

  list(): UpstreamView[] {
    return [...this.members.values()].map((member) => this.view(member))
  }

  async add({ pool: name, url: text, weight = 1, id: given }: NewUpstream): Promise<UpstreamView> {
    const pool = this.pools.get(name)
    if (pool === undefined) {
      const known = [...this.pools.keys()].join(', ') || 'none is configured'
      throw badRequest(`pool: no pool ${name} of upstreams; known: ${known}`)
    }
    const url = parseUpstreamUrl(text)
    if (url === null) throw badRequest(`url: expected ${upstreamUrlRule}`)
    if (isTcpUrl(url) && !pool.settings.tcpOnly)
      throw badRequest(`url: pool ${name} is not only for listeners of tcp; use http: or https:`)
    if (!isWeight(weight)) throw badRequest('weight must be a number above 0, at most 1000000')
    const id = given ?? defaultUpstreamId(url)
    if (!isUpstreamId(id)) throw badRequest(`id: expected ${upstreamIdRule}`)
    const known = this.members.get(id)?.spec
    if (known !== undefined && known.origin !== 'store')
      throw new EvenkeelError('CONFLICT', `upstream ${id} is in pool ${known.pool} already`)
    if (this.options.isTaken?.(id)) throw new EvenkeelError('CONFLICT', `id: a node that is linked is ${id}`)
    const stored = { id, pool: name, url: originOfUrl(url), weight }
    const found = await findAddress(this.finder, pool.allowed, storedSpec(stored), null)
    if (found.address === null)
      throw new EvenkeelError(found.refused ? 'FORBIDDEN' : 'BAD_REQUEST', `url: ${found.problem}`)
    await this.options.shared.add(stored)
    const member = this.members.get(id)
    if (member === undefined)
      throw new EvenkeelError('NOT_READY', `upstream ${id} is stored, but cannot be read now`)
    return this.view(member)
  }

  async remove(id: string): Promise<void> {
    const origin = this.members.get(id)?.spec.origin
    if (origin === 'config' || origin === 'dns') {
      const where = origin === 'config' ? 'the configuration' : 'DNS'
      throw new EvenkeelError('CONFLICT', `upstream ${id} comes from ${where}; remove it there, or drain it`)
    }
    if (!(await this.options.shared.remove(id))) throw new EvenkeelError('NOT_FOUND', `no upstream ${id}`)
  }

  private view(member: DirectoryMember): UpstreamView {
    return member.view(this.probes.ejection(member))
  }

  // Lists.

  /** `former`: as it was until now; what DNS has said goes on to count where the question is the same. */
  private createPool(settings: UpstreamPool, former: Pool | null): Pool {
    const { name, dns, allowedAddresses } = settings
    const base = {
      settings,
      allowed: allowedAddresses?.map((text) => blockOf(name, text)) ?? null,
      configured: configuredSpecs(settings),
    }
    if (former !== null && dns !== null && isDeepStrictEqual(former.settings.dns, dns)) {
      const { discovery, found, answered } = former
      return { ...base, discovery, found, answered }
    }
    const discovery = dns === null ? null : this.createDiscovery(name, dns)
    return { ...base, discovery, found: [], answered: dns === null }
  }

  private createDiscovery(name: string, query: NonNullable<UpstreamPool['dns']>): DnsDiscovery {
    const discovery: DnsDiscovery = this.openDiscovery(query, (servers) => {
      const pool = this.pools.get(name)
      // A late answer to a question that is not asked any more.
      if (pool?.discovery !== discovery) return
      pool.answered = true
      if (servers !== null) pool.found = foundSpecs(pool.settings, servers)
      this.reconcile()
    })
    return discovery
  }

  private openDiscovery(
    query: NonNullable<UpstreamPool['dns']>,
    answered: (servers: readonly FoundServer[] | null) => void,
  ): DnsDiscovery {
    return new DnsDiscovery({
      query,
      onAnswer: answered,
      onProblem: (problem) => {
        this.onProblem(problem)
        answered(null)
      },
    })
  }

  /** Brings the members in line with all lists. */
  private reconcile(): void {
    const complaints = new Set<string>()
    const complain = (text: string) => {
      complaints.add(text)
      if (!this.complaints.has(text)) this.onProblem(new EvenkeelError('CONFLICT', text))
    }
    const pools = [...this.pools.values()]
    const stored: UpstreamSpec[] = []
    for (const upstream of this.stored.upstreams.values()) {
      const pool = this.pools.get(upstream.pool)
      const spec = storedSpec(upstream)
      if (pool !== undefined && isTcpUrl(spec.url) && !pool.settings.tcpOnly)
        complain(`upstream ${upstream.id} is not used: requests are sent to its pool ${upstream.pool}`)
      else if (pool !== undefined) stored.push(spec)
      else complain(`upstream ${upstream.id} is not used: its pool ${upstream.pool} is not configured here`)
    }
    const lists = [...pools.map(({ configured }) => configured), ...pools.map(({ found }) => found), stored]
    const wanted = mergeSpecs(lists, (ignored, used) =>
      complain(`upstream ${ignored.id} of pool ${ignored.pool} is not used: pool ${used.pool} has this id`),
    )
    this.complaints = complaints
    for (const [id, member] of this.members) {
      const spec = wanted.get(id)
      if (spec === undefined || !isSameServer(spec, member.spec)) this.drop(member)
    }
    for (const spec of wanted.values()) this.keep(spec)
    this.wakeSettled()
  }

  private keep(spec: UpstreamSpec): void {
    let member = this.members.get(spec.id)
    if (member === undefined) {
      member = new DirectoryMember(spec, this.pools.get(spec.pool)!.settings.probe, this.now())
      this.members.set(spec.id, member)
      this.probes.add(member)
    }
    member.spec = spec
    const { weight = spec.weight, drain = null } = this.stored.settings.get(spec.id) ?? {}
    member.weight = weight
    member.drain = drain
    this.publish(member)
  }

  private drop(member: DirectoryMember): void {
    this.members.delete(member.id)
    this.probes.remove(member)
    if (member.published !== null) this.tell('removed', member.published, null)
  }

  // Addresses and health.

  private tick(): void {
    const now = this.now()
    for (const member of this.members.values()) {
      if (!member.looking && this.lookups < lookupsAtOnce && now >= member.lookAt) void this.look(member)
    }
    this.probes.tick()
  }

  private async look(member: DirectoryMember): Promise<void> {
    member.looking = true
    this.lookups++
    const { allowed } = this.pools.get(member.spec.pool)!
    const { address, problem } = await findAddress(this.finder, allowed, member.spec, member.address)
    this.lookups--
    member.looking = false
    if (this.closed || this.members.get(member.id) !== member) return
    if (this.pools.get(member.spec.pool)?.allowed !== allowed) {
      // Judged by rules that do not hold any more.
      member.lookAt = Number.NEGATIVE_INFINITY
      return
    }
    if (problem !== null && problem !== member.problem) {
      const result = member.address === null ? 'is not used' : 'keeps the address that it has'
      this.onProblem(new EvenkeelError('FORBIDDEN', `upstream ${member.id} ${result}: ${problem}`))
    }
    member.problem = problem
    // What was checked before holds until there is something better.
    member.address = address ?? member.address
    member.lookAt = this.now() + (address === null ? lookupAgainMs : lookupEveryMs)
    this.publish(member)
    this.probes.probeIfDue(member)
    this.wakeSettled()
  }

  // Changes.

  private changed(ids: readonly string[]): void {
    if (this.closed) return
    for (const id of ids) {
      const member = this.members.get(id)
      if (member !== undefined) this.publish(member)
    }
    if (ids.length > 0) this.wakeSettled()
  }

  /** Tells listeners what is new about a member, if anything is. */
  private publish(member: DirectoryMember): void {
    const { address, published } = member
    if (address === null) return
    const reason = this.probes.refusal(member)
    const upstream = member.snapshot(address, reason === null)
    if (published === null) {
      member.published = upstream
      this.tell('added', upstream, reason)
      return
    }
    if (isChanged(published, upstream)) {
      member.published = { ...upstream, healthy: published.healthy }
      this.tell('changed', member.published, reason)
    }
    if (published.healthy === upstream.healthy) return
    member.published = upstream
    this.tell(upstream.healthy ? 'healthy' : 'unhealthy', upstream, reason)
  }

  private tell(type: UpstreamChange['type'], upstream: Upstream, reason: string | null): void {
    if (this.queue.length === 0) queueMicrotask(() => this.flush())
    this.queue.push({ type, upstream, reason })
  }

  private flush(): void {
    const { queue } = this
    this.queue = []
    for (const change of queue) for (const listener of [...this.listeners]) listener(change)
  }

  private get isSettled(): boolean {
    if (!this.sharedIsRead || [...this.pools.values()].some(({ answered }) => !answered)) return false
    return [...this.members.values()].every(
      ({ probed, problem, address }) => probed || (address === null && problem !== null),
    )
  }

  private wakeSettled(): void {
    if (this.waiting.size > 0 && this.isSettled) for (const done of [...this.waiting]) done()
  }
}

function isChanged(a: Upstream, b: Upstream): boolean {
  return (
    a.weight !== b.weight ||
    a.address.host !== b.address.host ||
    a.address.port !== b.address.port ||
    !isDeepStrictEqual(a.drain, b.drain)
  )
}

function badRequest(message: string): EvenkeelError {
  return new EvenkeelError('BAD_REQUEST', message)
}

function blockOf(pool: string, text: string) {
  const block = parseBlock(text)
  if (block !== null) return block
  const rule = 'expected an address or a CIDR block such as 10.0.0.0/8'
  throw new EvenkeelError('CONFIG_INVALID', `pools.${pool}.allowedAddresses: ${rule}, got "${text}"`)
}
