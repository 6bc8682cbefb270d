import {
  ClientFrame,
  type ClientHello,
  type ClientWelcome,
  clientSubprotocol,
  encodeClientHello,
  invalidFrame,
  type Payload,
  parseClientWelcome,
  pingFrame,
} from '../src/protocol/client-frames.ts'
import { CloseCode } from '../src/protocol/close-codes.ts'
import { EvenkeelError } from '../src/protocol/errors.ts'
import type { Clock, WebSocketLike } from './types.ts'

const welcomeMs = 10_000
/** A connection over which nothing came for so long is asked whether anybody is there … */
const silenceMs = 20_000
/** … and given up when nothing has come after this time. */
const answerMs = 10_000
/** The same for one whose page or network has just come back: it is likely to be gone, and somebody is waiting. */
const probeMs = 3_000
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
  #timer: unknown
  #isWelcome = false
  #heardAt = 0
  #asked = false

  constructor(socket: WebSocketLike, handlers: ConnectionHandlers, clock: Clock) {
    this.#socket = socket
    this.#handlers = handlers
    this.#clock = clock
    this.#timer = clock.setTimeout(() => this.#lost('no welcome within 10 s'), welcomeMs)
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

  /** Asks whether anybody is there; without an answer within 3 s the connection has ended. After the welcome only. */
  probe(): void {
    this.#ask(probeMs)
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
    this.#heardAt = this.#clock.now()
    if (this.#asked) {
      this.#asked = false
      this.#listen(silenceMs)
    }
    if (frame === pingFrame && this.#isWelcome) return
    if (this.#isWelcome) this.#handlers.frame(type ?? 0, frame)
    else this.#welcome(type, frame)
  }

  #welcome(type: number | undefined, frame: Payload): void {
    if (type !== ClientFrame.welcome || typeof frame !== 'string')
      throw invalidFrame('a frame came before the welcome')
    const welcome = parseClientWelcome(frame)
    this.#isWelcome = true
    this.#listen(silenceMs)
    this.#handlers.welcomed(welcome)
  }

  /** A browser shows no pings and may take minutes to see that a network is gone. */
  #listen(ms: number): void {
    this.#clock.clearTimeout(this.#timer)
    this.#timer = this.#clock.setTimeout(() => {
      const silentMs = this.#clock.now() - this.#heardAt
      if (this.#asked) this.#lost('no sign of the gateway')
      else if (silentMs < silenceMs) this.#listen(silenceMs - silentMs)
      else this.#ask(answerMs)
    }, ms)
  }

  #ask(ms: number): void {
    this.#asked = true
    this.send(pingFrame)
    this.#listen(ms)
  }

  #guard(task: () => void): void {
    try {
      task()
    } catch (error) {
      if (!(error instanceof EvenkeelError)) throw error
      this.#violate(error.message)
    }
  }

  #lost(reason: string): void {
    this.#fail(abandonedCode, CloseCode.abnormal, reason)
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
