import type { Readiness } from './bus.ts'
import { RedisError } from './redis-error.ts'
import { type AnswerKind, RedisLink, type RedisLinkOptions, type ServerHello } from './redis-link.ts'
import type { RedisScript } from './redis-script.ts'
import { slotCount, slotOf } from './redis-slot.ts'
import { endpointKey, type RedisAccess, type RedisEndpoint } from './redis-url.ts'
import { Repeated } from './repeated.ts'

export interface RedisServersOptions {
  access: RedisAccess
  commandMs: number
  inFlightBytes: number
  heartbeatMs: number
  random: () => number
}

export interface ServersListener {
  /** Which server has which channel may have changed. */
  topology?(): void
  /** The server with this key answers, again or for the first time. */
  up?(key: string): void
}

/** A change that nobody announced is noticed within this time. */
const refreshMs = 5_000
/** The same while a slot has no server that answers. */
const urgentRefreshMs = 500
const refreshSpacingMs = 50
/** A script that meets a slot on its way to another server follows it this often. */
const redirectionsMax = 3

/**
 * The Redis servers behind one URL: a single one, or the masters of a Redis Cluster, each with one connection for commands.
 *
 * Routing is done here and not by ioredis' own `Cluster`, which keeps commands in queues of its own, sends them again after
 * failures (a publish could arrive twice, or after a later one), and does not say when a subscription is lost.
 */
export class RedisServers {
  private readonly options: RedisServersOptions
  private readonly links = new Map<string, RedisLink>()
  private readonly listeners = new Set<ServersListener>()
  private readonly refreshing: Repeated
  private hello: ServerHello | null = null
  /** Slot → key of its master; stays empty for a single server. */
  private slots: (string | undefined)[] = []
  /** The keys in it. */
  private homes = new Set<string>()
  private closed = false

  constructor(options: RedisServersOptions) {
    this.options = options
    this.refreshing = new Repeated(() => this.refresh(), refreshSpacingMs)
    this.dialSeeds()
  }

  /** True when channels live in slots (Redis Cluster 7 and later) and messages do not cross from server to server. */
  get sharded(): boolean {
    return this.hello?.isCluster === true && Number.parseInt(this.hello.version, 10) >= 7
  }

  listen(listener: ServersListener): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** The key of the server that has this key or channel; null while unknown. */
  homeOf(keyOrChannel: string): string | null {
    if (this.hello === null) return null
    if (this.hello.isCluster) return this.slots[slotOf(keyOrChannel)] ?? null
    const [only, ...others] = this.options.access.endpoints
    return others.length === 0 ? endpointKey(only!) : null
  }

  /** Another connection to a server, for another purpose. */
  connect(
    key: string,
    options: Pick<RedisLinkOptions, 'name' | 'onUp' | 'onDown' | 'onMessage' | 'onMoved'>,
  ) {
    return new RedisLink({ ...this.options, endpoint: this.links.get(key)!.endpoint, ...options })
  }

  /** Sends a command to the server that has `key`. It is sent once: a slot that has just moved fails it. */
  async call(key: string, command: string, args: readonly (string | number | Buffer)[]): Promise<unknown> {
    const link = this.linkOf(key)
    try {
      return await link.call(command, args)
    } catch (error) {
      this.learn(error, link)
      throw error
    }
  }

  /** Runs a script at the server that has its keys; the first one says which. Scripts may run twice. */
  async run(
    script: RedisScript,
    keys: readonly string[],
    args: readonly (string | number)[],
    answer: AnswerKind = 'text',
  ): Promise<unknown> {
    for (let redirections = 0; ; redirections++) {
      const link = this.linkOf(keys[0]!)
      try {
        return await runAt(link, script, keys, args, answer)
      } catch (error) {
        this.learn(error, link)
        const moved = error instanceof RedisError && error.reply === 'MOVED'
        if (!moved || redirections === redirectionsMax) throw error
        await this.links.get(this.homeOf(keys[0]!) ?? '')?.settled()
      }
    }
  }

  /** Asks the servers soon who has which slot. */
  refreshSoon(): void {
    if (this.hello?.isCluster) this.refreshing.soon()
  }

  /** Takes what an answer of one server says about where things are. */
  learn(error: unknown, link: RedisLink): void {
    if (!(error instanceof RedisError) || !this.hello?.isCluster) return
    if (error.code === 'NOT_READY') this.refreshing.soon()
    const moved = error.reply === 'MOVED' ? parseMoved(error.message, link.endpoint) : null
    if (moved === null) return
    const key = endpointKey(moved.endpoint)
    this.ensureLink(moved.endpoint)
    if (this.slots[moved.slot] === key) return
    this.slots[moved.slot] = key
    this.homes.add(key)
    for (const listener of this.listeners) listener.topology?.()
  }

  /** Resolves when the servers that are needed have answered, or the first attempt to reach them has failed. */
  async settled(): Promise<void> {
    await Promise.all([...this.links.values()].map((link) => link.settled()))
    if (!this.hello?.isCluster || this.slots.length > 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, this.options.commandMs)
      const stop = this.listen({ topology: done })
      function done() {
        clearTimeout(timer)
        stop()
        resolve()
      }
    })
    await Promise.all([...this.links.values()].map((link) => link.settled()))
  }

  status(): Readiness {
    const isCluster = this.hello?.isCluster === true
    if (this.hello !== null && !isCluster && this.options.access.endpoints.length > 1)
      return { ready: false, reason: 'several Redis URLs are for a Redis Cluster; these are single servers' }
    for (const [key, link] of this.links) {
      const isNeeded = !isCluster || this.slots.length === 0 || this.homes.has(key)
      if (isNeeded && !link.ready) return link.status()
    }
    const uncovered = isCluster ? slotCount - coverage(this.slots) : 0
    if (uncovered === 0) return { ready: true, reason: null }
    return { ready: false, reason: `${uncovered} slots of the Redis Cluster have no server` }
  }

  async close(): Promise<void> {
    this.closed = true
    this.refreshing.stop()
    this.listeners.clear()
    await Promise.all([...this.links.values()].map((link) => link.close()))
  }

  private linkOf(key: string): RedisLink {
    const home = this.homeOf(key)
    const link = home === null ? undefined : this.links.get(home)
    if (link !== undefined) return link
    const { reason } = this.status()
    throw new RedisError('NOT_READY', reason ?? 'the Redis Cluster is being looked at', null)
  }

  private dialSeeds(): void {
    for (const endpoint of this.options.access.endpoints) this.ensureLink(endpoint)
  }

  private ensureLink(endpoint: RedisEndpoint): void {
    const key = endpointKey(endpoint)
    if (this.closed || this.links.has(key)) return
    const link = new RedisLink({
      ...this.options,
      endpoint,
      name: 'evenkeel-commands',
      onUp: (hello) => this.linkUp(key, hello),
      onDown: () => this.refreshSoon(),
    })
    this.links.set(key, link)
  }

  private linkUp(key: string, hello: ServerHello): void {
    const isFirst = this.hello === null
    this.hello = hello
    if (hello.isCluster) this.refreshing.soon()
    else if (isFirst) for (const listener of this.listeners) listener.topology?.()
    for (const listener of this.listeners) listener.up?.(key)
  }

  private async refresh(): Promise<void> {
    this.refreshing.within(this.status().ready ? refreshMs : urgentRefreshMs)
    const links = [...this.links.values()].filter((link) => link.ready)
    if (links.length === 0) {
      this.dialSeeds()
      return
    }
    // Another one each time: a server that was cut off from the others would repeat an old view for ever.
    const first = Math.floor(this.options.random() * links.length)
    let best: (RedisEndpoint | undefined)[] = []
    let bestCount = 0
    for (let i = 0; i < links.length && bestCount < slotCount; i++) {
      const link = links[(first + i) % links.length]!
      const slots = await askForSlots(link)
      const count = coverage(slots)
      if (count <= bestCount) continue
      best = slots
      bestCount = count
    }
    if (bestCount > 0 && !this.closed) this.adopt(best)
  }

  private adopt(slots: (RedisEndpoint | undefined)[]): void {
    const homes = new Map<string, RedisEndpoint>()
    const next = slots.map((endpoint) => {
      if (endpoint === undefined) return undefined
      const key = endpointKey(endpoint)
      homes.set(key, endpoint)
      return key
    })
    const changed = next.some((key, slot) => key !== this.slots[slot]) || this.slots.length !== next.length
    this.slots = next
    this.homes = new Set(homes.keys())
    for (const endpoint of homes.values()) this.ensureLink(endpoint)
    for (const [key, link] of this.links) {
      if (homes.has(key)) continue
      this.links.delete(key)
      void link.close()
    }
    if (changed) for (const listener of this.listeners) listener.topology?.()
  }
}

async function runAt(
  link: RedisLink,
  { lua, sha1 }: RedisScript,
  keys: readonly string[],
  args: readonly (string | number)[],
  answer: AnswerKind,
): Promise<unknown> {
  const rest = [keys.length, ...keys, ...args]
  try {
    return await link.call('EVALSHA', [sha1, ...rest], answer)
  } catch (error) {
    // A server that is new, or was restarted, has not seen the script.
    if (!(error instanceof RedisError) || error.reply !== 'NOSCRIPT') throw error
    return await link.call('EVAL', [lua, ...rest], answer)
  }
}

type SlotsReply = [
  start: number,
  end: number,
  master: [host: string | null, port: number, ...rest: unknown[]],
][]

/** The master of each slot as this server sees it; an empty list when it does not answer. */
async function askForSlots(link: RedisLink): Promise<(RedisEndpoint | undefined)[]> {
  let reply: SlotsReply
  try {
    reply = (await link.call('CLUSTER', ['SLOTS'])) as SlotsReply
  } catch (error) {
    if (error instanceof RedisError) return []
    throw error
  }
  const slots = new Array<RedisEndpoint | undefined>(slotCount).fill(undefined)
  for (const [start, end, [host, port]] of reply) {
    // No host: the one that was asked; '?': it is not known.
    if (host !== '?') slots.fill({ host: host || link.endpoint.host, port }, start, end + 1)
  }
  return slots
}

/** `MOVED 3999 127.0.0.1:6381` within a message; without a host it is the one that was asked. */
function parseMoved(message: string, asked: RedisEndpoint): { slot: number; endpoint: RedisEndpoint } | null {
  const [, slot, host, port] = /MOVED (\d+) (\S*):(\d+)/.exec(message) ?? []
  if (slot === undefined || host === '?') return null
  return { slot: Number(slot), endpoint: { host: host || asked.host, port: Number(port) } }
}

function coverage(slots: readonly unknown[]): number {
  return slots.reduce((count: number, home) => count + (home === undefined ? 0 : 1), 0)
}
