import {
  ClientFrame,
  type ClientHello,
  type ClientWelcome,
  clientSubprotocol,
  encodeClientHello,
  invalidFrame,
  type Payload,
  parseClientWelcome,
} from '../src/protocol/client-frames.ts'
import { CloseCode } from '../src/protocol/close-codes.ts'
import { EvenkeelError } from '../src/protocol/errors.ts'
import type { Clock, WebSocketLike } from './types.ts'

const welcomeMs = 10_000
/** The connection is given up, the session is not: 1000 would end it. */
export const abandonedCode = 4000

export interface ConnectionHandlers {
  hello(): ClientHello
  /** What it throws is a violation of the protocol, and costs the connection. */
  welcomed(welcome: ClientWelcome): void
  /** A frame behind the welcome; it is not empty. What it throws is a violation of the protocol. */
  frame(type: number, frame: Payload): void
  /** Once, and nothing after it. 4100: the gateway has violated the protocol. */
  ended(code: number, reason: string): void
}

/** One WebSocket: says hello, waits for the welcome, then gives and takes frames. */
export class Connection {
  readonly #socket: WebSocketLike
  readonly #handlers: ConnectionHandlers
  readonly #clock: Clock
  readonly #timer: unknown
  #isWelcome = false

  constructor(socket: WebSocketLike, handlers: ConnectionHandlers, clock: Clock) {
    this.#socket = socket
    this.#handlers = handlers
    this.#clock = clock
    this.#timer = clock.setTimeout(
      () => this.#fail(abandonedCode, CloseCode.abnormal, 'no welcome within 10 s'),
      welcomeMs,
    )
    socket.binaryType = 'arraybuffer'
    socket.onopen = () => this.#open()
    socket.onmessage = ({ data }: { data: unknown }) => this.#guard(() => this.#receive(data))
    socket.onclose = ({ code, reason }: { code: number; reason: string }) => {
      this.#detach()
      this.#handlers.ended(code, reason)
    }
    // The close event says all that is known.
    socket.onerror = () => {}
  }

  send(frame: Payload): void {
    this.#socket.send(frame as string | Uint8Array<ArrayBuffer>)
  }

  /** Ends it without `ended`. */
  close(code: number, reason: string): void {
    this.#detach()
    this.#socket.close(code, reason)
  }

  #open(): void {
    if (this.#socket.protocol === clientSubprotocol) this.send(encodeClientHello(this.#handlers.hello()))
    else this.#violate(`the server does not speak ${clientSubprotocol}`)
  }

  #receive(data: unknown): void {
    const frame = typeof data === 'string' ? data : new Uint8Array(data as ArrayBuffer)
    const type = typeof frame === 'string' ? frame.charCodeAt(0) : frame[0]
    if (this.#isWelcome) this.#handlers.frame(type ?? 0, frame)
    else this.#welcome(type, frame)
  }

  #welcome(type: number | undefined, frame: Payload): void {
    if (type !== ClientFrame.welcome || typeof frame !== 'string')
      throw invalidFrame('a frame came before the welcome')
    const welcome = parseClientWelcome(frame)
    this.#isWelcome = true
    this.#clock.clearTimeout(this.#timer)
    this.#handlers.welcomed(welcome)
  }

  #guard(task: () => void): void {
    try {
      task()
    } catch (error) {
      if (!(error instanceof EvenkeelError)) throw error
      this.#violate(error.message)
    }
  }

  #violate(message: string): void {
    this.#fail(CloseCode.protocolViolation, CloseCode.protocolViolation, message)
  }

  #fail(closeCode: number, endCode: number, reason: string): void {
    this.close(closeCode, reason)
    this.#handlers.ended(endCode, reason)
  }

  #detach(): void {
    this.#clock.clearTimeout(this.#timer)
    this.#socket.onopen = null
    this.#socket.onmessage = null
    this.#socket.onclose = null
  }
}
