import type { ClientHello, ClientWelcome, Payload } from '../src/protocol/client-frames.ts'
import { CloseCode } from '../src/protocol/close-codes.ts'
import { abandonedCode, Connection, type ConnectionHandlers } from './connection.ts'
import { watchPage } from './page.ts'
import { closeKind, disconnectKind, isFinalCode, Retry } from './retry.ts'
import type { Transports } from './transports.ts'
import type {
  ClientOptions,
  ClientState,
  Clock,
  CloseEvent,
  DisconnectEvent,
  DisconnectKind,
  PageLike,
} from './types.ts'

export interface ReconnectorHandlers {
  /** `awayMs`: since the last welcomed connection was lost; means nothing before the first. */
  hello(awayMs: number): ClientHello
  welcomed(welcome: ClientWelcome): void
  frame(type: number, frame: Payload): void
  lost(event: DisconnectEvent): void
  over(event: CloseEvent): void
}

export interface ReconnectorOptions {
  transports: Transports
  clock: Clock
  random: () => number
  page: PageLike | null
  token: ClientOptions['token']
}

/** Keeps one connection up, until the other side says that it is over. */
export class Reconnector implements ConnectionHandlers {
  state: ClientState = 'connecting'
  #connection: Connection | null = null
  #openedAt: number | null = null
  #lostAt = 0
  #retryMs = 0
  #timer: unknown = null
  #attempts = 0
  readonly #options: ReconnectorOptions
  readonly #handlers: ReconnectorHandlers
  readonly #retry: Retry
  readonly #leavePage: () => void

  /** Dials at once. Throws what the constructor of the WebSocket throws. */
  constructor(options: ReconnectorOptions, handlers: ReconnectorHandlers) {
    this.#options = options
    this.#handlers = handlers
    this.#retry = new Retry(options.random)
    this.#dial()
    const { page } = options
    const own = { awake: () => this.#awake(), asleep: () => this.#asleep() }
    this.#leavePage = page === null ? () => {} : watchPage(page, own)
  }

  /** To be called while `open` only. */
  send(frame: Payload): void {
    this.#connection!.send(frame)
  }

  /** Goes on over a new connection. */
  move(reason: string): void {
    this.#connection!.close(abandonedCode, reason)
    this.#again(abandonedCode, reason, 'moved', null)
  }

  /** Ends it for good, without `over`. */
  close(code: number, reason: string): void {
    this.#stop()
    this.#connection?.close(code, reason)
    this.#connection = null
  }

  hello(): ClientHello {
    return this.#handlers.hello(this.#options.clock.now() - this.#lostAt)
  }

  welcomed(welcome: ClientWelcome): void {
    this.state = 'open'
    this.#openedAt = this.#options.clock.now()
    this.#retryMs = welcome.retryMs
    this.#options.transports.welcomed()
    this.#handlers.welcomed(welcome)
  }

  frame(type: number, frame: Payload): void {
    this.#handlers.frame(type, frame)
  }

  /** The gateway asks for another token. */
  async refresh(): Promise<void> {
    const connection = this.#connection
    const token = await this.#token()
    // The one that it was asked over may be gone.
    if (token && connection === this.#connection) connection!.send(`j${token}`)
  }

  ended(code: number, reason: string): void {
    if (isFinalCode(code) && !(code === CloseCode.unauthorized && this.#options.token))
      this.#over({ code, reason, kind: closeKind(code) })
    else this.#again(code, reason, disconnectKind(code), this.state === 'open' ? this.#retryMs : 0)
  }

  #dial(): void {
    this.state = 'connecting'
    this.#openedAt = null
    if (this.#options.token) void this.#dialAs(++this.#attempts)
    else this.#open()
  }

  async #dialAs(attempt: number): Promise<void> {
    const token = await this.#token()
    if (attempt !== this.#attempts || this.state !== 'connecting') return
    if (token) this.#open(token)
    else this.ended(abandonedCode, 'no token')
  }

  #open(token?: string): void {
    this.#connection = new Connection(this.#options.transports.open(token), this, this.#options.clock)
  }

  /** '' when there is none: who makes it knows why. */
  #token(): Promise<string> {
    return Promise.resolve()
      .then(this.#options.token!)
      .catch(() => '')
  }

  /** Somebody looks at the page again, or the network is back: no more waiting, and a connection has to show that it lives. */
  #awake(): void {
    if (this.state === 'open') this.#connection!.probe()
    if (this.state !== 'waiting') return
    this.#options.clock.clearTimeout(this.#timer)
    this.#retry.reset()
    this.#dial()
  }

  /** Browsers cut the connections of a page that they put away, or do not keep the page. */
  #asleep(): void {
    if (this.state === 'closed') return
    const reason = 'the page is put away'
    this.#options.clock.clearTimeout(this.#timer)
    this.#connection?.close(abandonedCode, reason)
    this.#connection = null
    if (this.state === 'open') this.#lostAt = this.#options.clock.now()
    this.state = 'waiting'
    this.#handlers.lost({ code: abandonedCode, reason, kind: 'asleep', waitMs: Number.POSITIVE_INFINITY })
  }

  #over(event: CloseEvent): void {
    this.#stop()
    this.#connection = null
    this.#handlers.over(event)
  }

  #stop(): void {
    this.state = 'closed'
    this.#options.clock.clearTimeout(this.#timer)
    this.#leavePage()
  }

  #again(code: number, reason: string, kind: DisconnectKind, retryMs: number | null): void {
    const { clock } = this.#options
    this.#connection = null
    const now = clock.now()
    const openMs = this.#openedAt === null ? null : now - this.#openedAt
    if (openMs !== null) this.#lostAt = now
    // Who closes an attempt with a code of its own has been reached.
    if (kind === 'lost') this.#options.transports.ended(openMs !== null)
    const waitMs = this.#retry.after({ openMs, retryMs })
    this.state = 'waiting'
    this.#timer = clock.setTimeout(() => this.#dial(), waitMs)
    this.#handlers.lost({ code, reason, kind, waitMs })
  }
}
