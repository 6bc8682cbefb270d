import type { Readiness } from './bus.ts'
import { RedisError } from './redis-error.ts'
import type { RedisLink } from './redis-link.ts'
import type { RedisServers } from './redis-servers.ts'
import { slotOf } from './redis-slot.ts'
import { Repeated } from './repeated.ts'

export interface SubscriptionsOptions {
  servers: RedisServers
  /** Channels that were interrupted and are live again. */
  onGap(channels: readonly string[]): void
}

interface Subscription {
  readonly channel: string
  readonly receive: (payload: Buffer) => void
  /** Key of the server that serves it. */
  home: string | null
  live: boolean
  /** Its subscriber was told that it is live, or will be, and is owed a word when it is live again. */
  owed: boolean
  waiting: ((live: boolean) => void)[]
}

/** Names in one command; more of them leave in further commands. */
const namesPerCommand = 500
/** Commands that wait for an answer while many channels are restored; the rest follows. */
const commandsAtOnce = 32
const repairSpacingMs = 50
/** A channel that a server refuses is asked for again this often. */
const repairMs = 1_000

/**
 * The raw channels that this process wants, each on a connection to the server that serves it. What is wanted is kept here and not
 * in the client, and restored by answers that are checked: a subscription that silently does not come back is the classic
 * fault of Redis reconnects.
 */
export class RedisSubscriptions {
  private readonly servers: RedisServers
  private readonly onGap: (channels: readonly string[]) => void
  private readonly wanted = new Map<string, Subscription>()
  private readonly links = new Map<string, RedisLink>()
  /** Servers that may have ended subscriptions, by key. */
  private readonly ending = new Set<string>()
  private readonly repairing: Repeated
  private readonly stopListening: () => void
  private failure: string | null = null
  private closed = false

  constructor(options: SubscriptionsOptions) {
    this.servers = options.servers
    this.onGap = options.onGap
    this.repairing = new Repeated(() => this.repair(), repairSpacingMs)
    this.stopListening = this.servers.listen({ topology: () => this.repairing.soon() })
  }

  /** True: live. False: kept, and live later, with a gap. The channel must not be wanted already. */
  subscribe(channel: string, receive: (payload: Buffer) => void): Promise<boolean> {
    const subscription: Subscription = { channel, receive, home: null, live: false, owed: false, waiting: [] }
    this.wanted.set(channel, subscription)
    const answer = new Promise<boolean>((resolve) => subscription.waiting.push(resolve))
    this.place(subscription)
    const link = this.linkOf(subscription)
    if (link?.ready) void this.ask(link, [subscription])
    else void this.awaitLink(subscription)
    return answer
  }

  /** The channel's messages end with this call; resolves when Redis knows or is away. */
  async unsubscribe(channel: string): Promise<void> {
    const subscription = this.wanted.get(channel)
    if (subscription === undefined) return
    this.wanted.delete(channel)
    settle(subscription, false)
    await this.drop(subscription)
  }

  status(): Readiness {
    for (const link of this.links.values()) if (!link.ready) return link.status()
    return { ready: this.failure === null, reason: this.failure }
  }

  async close(): Promise<void> {
    this.closed = true
    this.stopListening()
    this.repairing.stop()
    for (const subscription of this.wanted.values()) settle(subscription, false)
    this.wanted.clear()
    await Promise.all([...this.links.values()].map((link) => link.close()))
  }

  private get commands(): { subscribe: string; unsubscribe: string } {
    // In lower case: ioredis knows by it that the answer comes as a push.
    return this.servers.sharded
      ? { subscribe: 'ssubscribe', unsubscribe: 'sunsubscribe' }
      : { subscribe: 'subscribe', unsubscribe: 'unsubscribe' }
  }

  private linkOf({ home }: Subscription): RedisLink | undefined {
    return home === null ? undefined : this.links.get(home)
  }

  /** Gives the subscriber an answer even if no connection comes; a confirmation gives a better one before. */
  private async awaitLink(subscription: Subscription): Promise<void> {
    if (subscription.home === null) {
      await this.servers.settled()
      if (this.wanted.get(subscription.channel) === subscription) this.place(subscription)
      const link = this.linkOf(subscription)
      if (link?.ready) return await this.ask(link, [subscription])
    }
    await this.linkOf(subscription)?.settled()
    if (!this.linkOf(subscription)?.ready) this.interrupt(subscription)
  }

  private place(subscription: Subscription): void {
    // Without shards every server has every message; all channels share one, so that order and gaps do.
    const home = this.servers.homeOf(this.servers.sharded ? subscription.channel : '')
    if (home === subscription.home || home === null) return
    if (subscription.home !== null) {
      void this.drop(subscription)
      this.interrupt(subscription)
    }
    subscription.home = home
    if (!this.links.has(home)) this.links.set(home, this.connect(home))
  }

  private connect(home: string): RedisLink {
    const link = this.servers.connect(home, {
      name: 'evenkeel-channels',
      onUp: () => void this.ask(link, this.at(home)),
      onDown: () => {
        for (const subscription of this.at(home)) this.interrupt(subscription)
        this.servers.refreshSoon()
      },
      onMessage: (channel, payload) => {
        const subscription = this.wanted.get(channel)
        // A channel that has just gone to another connection would be heard twice.
        if (subscription?.home !== home) return
        this.tellGap(subscription)
        subscription.receive(payload)
      },
      onMoved: () => {
        this.ending.add(home)
        this.servers.refreshSoon()
        this.repairing.soon()
      },
    })
    return link
  }

  private at(home: string): Subscription[] {
    return [...this.wanted.values()].filter((subscription) => subscription.home === home)
  }

  private interrupt(subscription: Subscription): void {
    subscription.live = false
    subscription.owed = true
    settle(subscription, false)
  }

  /** Brings every channel to the server that has it now, and asks for those that are not live. */
  private async repair(): Promise<void> {
    this.failure = null
    this.findEnded()
    const missing = new Map<string, Subscription[]>()
    for (const subscription of this.wanted.values()) {
      this.place(subscription)
      const { home, live } = subscription
      if (home === null || live) continue
      const group = missing.get(home)
      if (group === undefined) missing.set(home, [subscription])
      else group.push(subscription)
    }
    this.closeUnused()
    const asked = [...missing].map(async ([home, subscriptions]) => {
      const link = this.links.get(home)
      if (link?.ready) await this.ask(link, subscriptions)
    })
    await Promise.all(asked)
  }

  /** The map of slots alone does not tell: a slot may have gone and come back, but its subscriptions have not. */
  private findEnded(): void {
    for (const home of this.ending) {
      const left = this.links.get(home)?.subscribed()
      for (const subscription of this.at(home))
        if (subscription.live && left?.has(subscription.channel) !== true) this.interrupt(subscription)
    }
    this.ending.clear()
  }

  private closeUnused(): void {
    const used = new Set([...this.wanted.values()].map(({ home }) => home))
    for (const [key, link] of this.links) {
      if (used.has(key)) continue
      this.links.delete(key)
      void link.close()
    }
  }

  /** Subscribes, marks what Redis confirmed as live, and tells of gaps when all answers are in. */
  private async ask(link: RedisLink, subscriptions: readonly Subscription[]): Promise<void> {
    const batches = this.servers.sharded ? inSlots(subscriptions) : inChunks(subscriptions)
    const gaps: string[] = []
    const next = async (): Promise<void> => {
      for (let batch = batches.pop(); batch !== undefined; batch = batches.pop())
        gaps.push(...(await this.askFor(link, batch)))
    }
    await Promise.all(Array.from({ length: commandsAtOnce }, next))
    if (gaps.length > 0 && !this.closed) this.onGap(gaps)
  }

  private async askFor(link: RedisLink, batch: readonly Subscription[]): Promise<string[]> {
    const { generation } = link
    const wanted = batch.filter((subscription) => this.wanted.get(subscription.channel) === subscription)
    if (wanted.length === 0) return []
    try {
      await link.call(
        this.commands.subscribe,
        wanted.map(({ channel }) => channel),
      )
    } catch (error) {
      if (!(error instanceof RedisError)) throw error
      for (const subscription of wanted) this.interrupt(subscription)
      this.refused(error, link)
      return []
    }
    const gaps: string[] = []
    for (const subscription of wanted) {
      const isCurrent =
        this.wanted.get(subscription.channel) === subscription &&
        this.linkOf(subscription) === link &&
        link.generation === generation &&
        link.ready
      if (!isCurrent) continue
      subscription.live = true
      settle(subscription, true)
      if (subscription.owed) gaps.push(subscription.channel)
      subscription.owed = false
    }
    return gaps
  }

  private refused(error: RedisError, link: RedisLink): void {
    if (error.reply === 'MOVED') {
      this.servers.learn(error, link)
      this.repairing.soon()
      return
    }
    // A lost connection is restored as a whole by the next one.
    if (!link.ready) return
    if (error.reply !== null) this.failure = error.message
    this.repairing.within(repairMs)
  }

  /** A message may be here before the answers to all that was asked for, and the gap lies before it. */
  private tellGap(subscription: Subscription): void {
    if (!subscription.owed) return
    subscription.owed = false
    this.onGap([subscription.channel])
  }

  private async drop(subscription: Subscription): Promise<void> {
    const link = this.linkOf(subscription)
    if (!link?.ready) return
    // A failure leaves nothing behind: it means that the connection, and with it the subscription, is gone.
    await link.call(this.commands.unsubscribe, [subscription.channel]).catch(() => {})
  }
}

function settle(subscription: Subscription, live: boolean): void {
  const { waiting } = subscription
  subscription.waiting = []
  for (const resolve of waiting) resolve(live)
}

function inChunks(subscriptions: readonly Subscription[]): Subscription[][] {
  const chunks: Subscription[][] = []
  for (let start = 0; start < subscriptions.length; start += namesPerCommand)
    chunks.push(subscriptions.slice(start, start + namesPerCommand))
  return chunks
}

/** Sharded channels of one command must be in one slot. */
function inSlots(subscriptions: readonly Subscription[]): Subscription[][] {
  const slots = new Map<number, Subscription[]>()
  for (const subscription of subscriptions) {
    const slot = slotOf(subscription.channel)
    const known = slots.get(slot)
    if (known === undefined) slots.set(slot, [subscription])
    else known.push(subscription)
  }
  return [...slots.values()].flatMap(inChunks)
}
