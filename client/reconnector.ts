import type { ClientHello, ClientWelcome, Payload } from '../src/protocol/client-frames.ts'
import { abandonedCode, Connection, type ConnectionHandlers } from './connection.ts'
import { isFinalCode, Retry } from './retry.ts'
import type { ClientState, Clock, CloseEvent, DisconnectEvent, WebSocketLike } from './types.ts'

export interface ReconnectorHandlers {
  /** `awayMs`: since the last welcomed connection was lost; means nothing before the first. */
  hello(awayMs: number): ClientHello
  welcomed(welcome: ClientWelcome): void
  frame(type: number, frame: Payload): void
  lost(event: DisconnectEvent): void
  over(event: CloseEvent): void
}

/** Keeps one connection up, until the other side says that it is over. */
export class Reconnector implements ConnectionHandlers {
  state: ClientState = 'connecting'
  #connection: Connection | null = null
  #openedAt: number | null = null
  #lostAt = 0
  #retryMs = 0
  #timer: unknown = null
  readonly #open: () => WebSocketLike
  readonly #handlers: ReconnectorHandlers
  readonly #clock: Clock
  readonly #retry: Retry

  constructor(open: () => WebSocketLike, handlers: ReconnectorHandlers, clock: Clock, random: () => number) {
    this.#open = open
    this.#handlers = handlers
    this.#clock = clock
    this.#retry = new Retry(random)
  }

  /** Throws what the constructor of the WebSocket throws. */
  dial(): void {
    this.state = 'connecting'
    this.#openedAt = null
    this.#connection = new Connection(this.#open(), this, this.#clock)
  }

  /** To be called while `open` only. */
  send(frame: Payload): void {
    this.#connection!.send(frame)
  }

  /** Goes on over a new connection. */
  move(reason: string): void {
    this.#connection!.close(abandonedCode, reason)
    this.#again({ code: abandonedCode, reason }, null)
  }

  /** Ends it for good, without `over`. */
  close(code: number, reason: string): void {
    this.state = 'closed'
    this.#clock.clearTimeout(this.#timer)
    this.#connection?.close(code, reason)
    this.#connection = null
  }

  hello(): ClientHello {
    return this.#handlers.hello(this.#clock.now() - this.#lostAt)
  }

  welcomed(welcome: ClientWelcome): void {
    this.state = 'open'
    this.#openedAt = this.#clock.now()
    this.#retryMs = welcome.retryMs
    this.#handlers.welcomed(welcome)
  }

  frame(type: number, frame: Payload): void {
    this.#handlers.frame(type, frame)
  }

  ended(code: number, reason: string): void {
    if (isFinalCode(code)) this.#over({ code, reason })
    else this.#again({ code, reason }, this.state === 'open' ? this.#retryMs : 0)
  }

  #over(event: CloseEvent): void {
    this.state = 'closed'
    this.#connection = null
    this.#handlers.over(event)
  }

  #again(event: CloseEvent, retryMs: number | null): void {
    this.#connection = null
    const now = this.#clock.now()
    const openMs = this.#openedAt === null ? null : now - this.#openedAt
    if (openMs !== null) this.#lostAt = now
    const waitMs = this.#retry.after({ openMs, retryMs })
    this.state = 'waiting'
    this.#timer = this.#clock.setTimeout(() => this.dial(), waitMs)
    this.#handlers.lost({ ...event, waitMs })
  }
}
