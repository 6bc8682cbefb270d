import {
  ClientFrame,
  type ClientHello,
  type ClientWelcome,
  encodeCount,
  encodePayload,
  invalidFrame,
  type Payload,
  parseChannelMessage,
  parseCount,
  parseVerdict,
  payloadOf,
} from '../src/protocol/client-frames.ts'
import { CloseCode } from '../src/protocol/close-codes.ts'
import { utf8 } from '../src/protocol/utf8.ts'
import { Listeners } from './listeners.ts'
import { acknowledgeBytes, acknowledgeMs } from './outputs.ts'
import { Reconnector } from './reconnector.ts'
import type { Run } from './run.ts'
import { Runs } from './runs.ts'
import { SendError } from './send-error.ts'
import { SerialQueue } from './serial-queue.ts'
import { type LostItem, SessionState } from './session-state.ts'
import type { Transports } from './transports.ts'
import type {
  ClientEvents,
  ClientOptions,
  ClientState,
  Clock,
  Listener,
  PageLike,
  RunOptions,
} from './types.ts'

const MiB = 1024 * 1024

const platformClock: Clock = {
  now: () => performance.now(),
  setTimeout: (callback, ms) => setTimeout(callback, ms),
  clearTimeout: (timer) => clearTimeout(timer as number),
}

/** Node.js has neither window nor worker. */
function platformPage(): PageLike | null {
  const page = globalThis as unknown as Partial<PageLike>
  return typeof page.addEventListener === 'function' ? (page as PageLike) : null
}

interface PendingMessage {
  readonly frame: Payload
  readonly bytes: number
  resolve(): void
  reject(error: SendError): void
}

/** A client of `evenkeel.v1`: a session that outlives its connections. Made by `connect`. */
export class EvenkeelClient {
  readonly #clock: Clock
  readonly #maxPendingBytes: number
  readonly #maxPendingMessages: number
  readonly #listeners = new Listeners()
  readonly #events = new SerialQueue()
  readonly #conversation = new SessionState<PendingMessage>()
  readonly #reconnector: Reconnector
  readonly #runs: Runs
  #messageBytes = MiB
  #resumeMs = 0
  #acknowledgeTimer: unknown = null
  /** By channel, what the client has said of it last. */
  readonly #channels = new Map<string, string>()

  constructor(transports: Transports, options: ClientOptions) {
    const { clock = platformClock, random = Math.random, page = platformPage(), token } = options
    this.#clock = clock
    this.#maxPendingBytes = options.maxPendingBytes ?? MiB
    this.#maxPendingMessages = options.maxPendingMessages ?? 1024
    const handlers = {
      hello: (awayMs: number) => this.#hello(awayMs),
      welcomed: (welcome: ClientWelcome) => this.#welcomed(welcome),
      frame: (type: number, frame: Payload) => this.#receive(type, frame),
      lost: (event: ClientEvents['disconnect']) => this.#emit('disconnect', event),
      over: (event: ClientEvents['close']) => this.#end(event, 'the session has ended'),
    }
    this.#runs = new Runs({
      clock,
      random,
      isOpen: () => this.state === 'open',
      send: (frame) => this.#reconnector.send(frame),
    })
    this.#reconnector = new Reconnector({ transports, clock, random, page, token }, handlers)
  }

  get state(): ClientState {
    return this.#reconnector.state
  }

  /** Id of the session; null before the first welcome, and after the session was lost until there is another one. */
  get session(): string | null {
    return this.#conversation.session
  }

  /**
   * Calls the listener with each event from now on; returns what ends that. What a listener throws, or rejects with, is not
   * caught: it reaches the `error` event of the window or `uncaughtException`.
   */
  on<Event extends keyof ClientEvents>(event: Event, listener: Listener<Event>): () => void {
    return this.#listeners.add(event, listener)
  }

  /**
   * Sends a message: now, or as soon as there is a connection. Resolves once the session's node has committed it. Bytes are copied.
   * Rejects with a `SendError`, whose `outcome` says whether the node may have handled the message: BAD_REQUEST (neither text nor
   * bytes), GONE (the session was lost or has ended, or the client was closed), TOO_LARGE (above the gateway's limit or
   * `maxPendingBytes`), TOO_MANY_REQUESTS (`maxPendingBytes` or `maxPendingMessages` wait already).
   * A promise that nobody looks at is no unhandled rejection.
   */
  send(data: string | Uint8Array): Promise<void> {
    const promise = new Promise<void>((resolve, reject) => {
      const bytes = bytesOf(data)
      this.#admit(data, bytes)
      this.#conversation.add({ frame: encodePayload(ClientFrame.message, data), bytes, resolve, reject })
      if (this.state === 'open') this.#sendPending()
    })
    promise.catch(() => {})
    return promise
  }

  /**
   * Has a node of the pool do `node.run(name, …)` with this body, which is JSON, and reads what comes of it. The run belongs to no session and
   * goes on while there is no connection.
   */
  run(name: string, body: unknown, options: RunOptions = {}): Run {
    return this.#runs.start(name, body, options)
  }

  /** Reads a run that exists already, from its beginning or from behind an offset. Whoever knows its id may do so. */
  attach(run: string, after: string | null = null): Run {
    return this.#runs.attach(run, after)
  }

  /**
   * Joins a channel by itself, where the gateway's `channels.permissions` let this user; again in each new session, until `leave`. The event `verdict` says
   * `joined`, `denied` (no rule allows it) or `failed` (not now).
   */
  join(channel: string): void {
    this.#use(`i${channel}`)
  }

  leave(channel: string): void {
    this.#use(`o${channel}`)
  }

  /** Publishes to a channel, where this user may. Returns false, and does nothing, while there is no connection; `verdict` tells of what is refused. */
  publish(channel: string, text: string): boolean {
    return this.#say(`b${channel}\n${text}`)
  }

  /**
   * Ends the session and the client: no listener hears anything more but `close` with code 1000. What is not committed yet is
   * rejected, so await it first. Without a connection the gateway learns nothing of it, and ends the session when its time is over.
   */
  close(): void {
    if (this.state === 'closed') return
    this.#reconnector.close(CloseCode.normal, '')
    this.#events.clear()
    this.#end({ code: CloseCode.normal, reason: '', kind: 'closed' }, 'the client was closed')
  }

  #use(frame: string): void {
    this.#channels.set(frame.slice(1), frame)
    this.#say(frame)
  }

  #say(frame: string): boolean {
    const isOpen = this.state === 'open'
    if (isOpen) this.#reconnector.send(frame)
    return isOpen
  }

  #admit(data: unknown, bytes: number): void {
    if (typeof data !== 'string' && !(data instanceof Uint8Array))
      throw new SendError('BAD_REQUEST', 'data must be a string or a Uint8Array')
    if (this.state === 'closed') throw new SendError('GONE', 'the client is closed')
    const bytesMax = Math.min(this.#messageBytes, this.#maxPendingBytes)
    if (bytes > bytesMax) throw tooLarge(bytes, bytesMax)
    const { pending, pendingBytes } = this.#conversation
    if (pendingBytes + bytes > this.#maxPendingBytes || pending >= this.#maxPendingMessages)
      throw new SendError(
        'TOO_MANY_REQUESTS',
        `${pending} messages of ${pendingBytes} bytes are not committed yet; await some of them`,
      )
  }

  #hello(awayMs: number): ClientHello {
    if (awayMs > this.#resumeMs) rejectAll(this.#conversation.expire(), 'the session has expired')
    return this.#conversation.hello()
  }

  #welcomed(welcome: ClientWelcome): void {
    const { committed, lost, event } = this.#conversation.welcome(welcome)
    this.#resumeMs = welcome.resumeMs
    this.#messageBytes = welcome.messageBytes
    for (const { resolve } of committed) resolve()
    rejectAll(lost, 'the session could not be resumed')
    for (const { bytes, reject } of this.#conversation.takeOversized(welcome.messageBytes))
      reject(tooLarge(bytes, welcome.messageBytes))
    // Any frame ends the life of the earlier token, so one is sent even if there is nothing new to say.
    if (welcome.recovered === true) this.#acknowledge()
    for (const frame of this.#channels.values()) this.#say(frame)
    this.#sendPending()
    this.#runs.welcomed()
    this.#emit('session', event)
  }

  #sendPending(): void {
    for (const { frame } of this.#conversation.takeUnsent()) this.#reconnector.send(frame)
  }

  #receive(type: number, frame: Payload): void {
    if (type === ClientFrame.message) this.#receiveOutput(payloadOf(frame))
    else if (type === ClientFrame.late) this.#emit('message', payloadOf(frame))
    else if (type === ClientFrame.channel) this.#receiveChannelMessage(frame)
    else if (typeof frame === 'string') this.#receiveText(type, frame)
    else throw unexpected(type)
  }

  #receiveText(type: number, frame: string): void {
    if (type === ClientFrame.count) this.#commit(parseCount(frame))
    else if (type === ClientFrame.verdict) this.#receiveVerdict(frame)
    else if (frame === 'r') this.#reconnector.move('the gateway leaves')
    else if (frame === 'j') void this.#reconnector.refresh()
    else if (!this.#runs.received(type, frame)) throw unexpected(type)
  }

  #receiveOutput(data: Payload): void {
    const { outputs } = this.#conversation
    if (!outputs.receive()) return
    const bytes = bytesOf(data)
    const handled = () => {
      outputs.handle(bytes)
      this.#acknowledgeSoon()
      return null
    }
    this.#events.push(() => {
      const wait = this.#listeners.call('message', data)
      return wait === null ? handled() : wait.then(handled)
    })
  }

  #receiveChannelMessage(frame: Payload): void {
    const message = parseChannelMessage(frame)
    this.#conversation.positions.see(message.channel, message.position)
    // Not behind messages that wait for a listener: nothing would bound how many of these pile up.
    this.#listeners.call('channel', message)
  }

  #receiveVerdict(frame: string): void {
    const verdict = parseVerdict(frame)
    this.#conversation.positions.judge(verdict)
    this.#listeners.call('verdict', verdict)
  }

  #commit(count: number): void {
    for (const { resolve } of this.#conversation.commit(count)) resolve()
  }

  #acknowledgeSoon(): void {
    if (this.state !== 'open') return
    if (this.#conversation.outputs.unacknowledgedBytes >= acknowledgeBytes) this.#acknowledge()
    else this.#acknowledgeTimer ??= this.#clock.setTimeout(() => this.#acknowledgeLate(), acknowledgeMs)
  }

  #acknowledgeLate(): void {
    this.#acknowledgeTimer = null
    if (this.state === 'open' && this.#conversation.outputs.hasUnacknowledged) this.#acknowledge()
  }

  #acknowledge(): void {
    this.#reconnector.send(encodeCount(this.#conversation.outputs.acknowledge()))
  }

  #emit<Event extends keyof ClientEvents>(event: Event, value: ClientEvents[Event]): void {
    this.#events.push(() => this.#listeners.call(event, value))
  }

  #end(event: ClientEvents['close'], why: string): void {
    this.#clock.clearTimeout(this.#acknowledgeTimer)
    rejectAll(this.#conversation.reset(), why)
    this.#runs.end(why)
    this.#emit('close', event)
  }
}

function bytesOf(data: Payload): number {
  return typeof data === 'string' ? utf8(data).length : data.length
}

function rejectAll(lost: LostItem<PendingMessage>[], why: string): void {
  for (const { item, outcome } of lost) item.reject(new SendError('GONE', why, outcome))
}

function tooLarge(bytes: number, bytesMax: number): SendError {
  return new SendError('TOO_LARGE', `the message has ${bytes} bytes, the most are ${bytesMax}`)
}

function unexpected(type: number): Error {
  return invalidFrame(`a frame of type ${type}, which is unknown or must be text`)
}
