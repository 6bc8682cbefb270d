import type { Limiter } from '../../cluster/limiter.ts'
import { MessagePace } from '../../core/limits/message-pace.ts'
import type { Rate } from '../../core/limits/token-bucket.ts'

const reportMs = 200
/** Few messages are counted together with later ones, for so many rounds. */
const roundsMost = 5
/** Users that are counted in one round; the others wait for the next one. */
const reportsMost = 1_000

/**
 * The pace of one user, who may be at other gateways too. Messages are counted here at once, and with those of the others a few times a
 * second: what goes beyond meanwhile is made up for.
 */
export class SharedPace extends MessagePace {
  /** Not counted together with the others yet. */
  uncounted = 0
  rounds = 0
  readonly key: string
  private readonly dirty: Set<SharedPace>
  private heldBackUntil = Number.NEGATIVE_INFINITY

  constructor(key: string, rate: Rate, patienceMs: number, now: number, dirty: Set<SharedPace>) {
    super(rate, patienceMs, now)
    this.key = key
    this.dirty = dirty
  }

  override take(now: number): number {
    if (this.uncounted++ === 0) this.dirty.add(this)
    const waitMs = super.take(now)
    const sharedMs = this.heldBackUntil - now
    return waitMs < 0 || sharedMs <= waitMs ? waitMs : this.over(now, Math.ceil(sharedMs))
  }

  override waitMs(now: number): number {
    return Math.max(super.waitMs(now), this.heldBackUntil - now)
  }

  /** Over all gateways there is nothing left until then. */
  holdBackUntil(time: number): void {
    this.heldBackUntil = time
  }
}

/** Counts what users send together with the other gateways. */
export class SharedPaces {
  private readonly limiter: Limiter
  private readonly rate: Rate
  private readonly patienceMs: number
  private readonly now: () => number
  private readonly dirty = new Set<SharedPace>()
  private readonly timer: NodeJS.Timeout

  constructor(limiter: Limiter, rate: Rate, patienceMs: number, now: () => number) {
    this.limiter = limiter
    this.rate = rate
    this.patienceMs = patienceMs
    this.now = now
    this.timer = setInterval(() => this.report(), reportMs)
  }

  of(key: string): SharedPace {
    return new SharedPace(key, this.rate, this.patienceMs, this.now(), this.dirty)
  }

  close(): void {
    clearInterval(this.timer)
  }

  private report(): void {
    const many = Math.max(1, this.rate.burst / 10)
    let reports = 0
    for (const pace of this.dirty) {
      if (pace.uncounted < many && ++pace.rounds < roundsMost) continue
      if (++reports > reportsMost) return
      this.dirty.delete(pace)
      const count = pace.uncounted
      pace.uncounted = 0
      pace.rounds = 0
      this.limiter.consume(pace.key, count).then(
        ({ allowed, resetMs }) => {
          if (!allowed) pace.holdBackUntil(this.now() + resetMs)
        },
        // Counted here they are in any case.
        () => {},
      )
    }
  }
}
