import type { WebSocketLike } from './types.ts'

/** Where WebSockets have worked, that many attempts fail before something else is tried: it is likely to be the gateway. */
const patience = 3

/** `token`: of who opens it. */
type Open = (token?: string) => WebSocketLike

/** Decides by which transport the next attempt is made. */
export class Transports {
  readonly #webSocket: Open
  readonly #http: Open | null
  #isHttp = false
  #proven = false
  #failures = 0

  /** `http`: null where there is nothing to fall back to. */
  constructor(webSocket: Open, http: Open | null) {
    this.#webSocket = webSocket
    this.#http = http
  }

  open(token?: string): WebSocketLike {
    return this.#isHttp && this.#http !== null ? this.#http(token) : this.#webSocket(token)
  }

  /** The gateway has answered. */
  welcomed(): void {
    this.#failures = 0
    if (!this.#isHttp) this.#proven = true
  }

  /** An attempt has failed without a word of the gateway, or a connection has ended. */
  ended(wasWelcome: boolean): void {
    // What has worked by itself before is tried first.
    if (wasWelcome) this.#isHttp &&= !this.#proven
    else if (this.#isHttp) this.#isHttp = false
    else this.#isHttp = ++this.#failures % (this.#proven ? patience : 1) === 0
  }
}
