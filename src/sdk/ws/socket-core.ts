import type { EventEmitter } from 'node:events'
import { CloseCode, isSendableCloseCode } from '../../protocol/close-codes.ts'
import { defaultLimits } from '../../protocol/limits.ts'
import type { Session } from '../types.ts'
import type { HandshakeSocket } from './handshake.ts'
import { type Done, later, SendQueue } from './send-queue.ts'

export const ReadyState = { open: 1, closing: 2, closed: 3 } as const

export interface SendOptions {
  binary?: boolean
  fin?: boolean
}

/** What of the application's own `ws` class is used. */
export interface BaseSocket extends EventEmitter {
  binaryType: string
  _socket: unknown
  _closeFrameReceived: boolean
  _closeFrameSent: boolean
}

export interface SocketHost {
  /** Of what the application sends to a client that does not read. */
  readonly maxBufferedBytes: number
  /** Where the session of this id is served here now, if it is. */
  current(id: string): SocketCore | undefined
  /** The next message waits for the promise that a listener has returned. */
  readonly sequential: boolean
  warn(message: string): void
  failed(session: Session, error: unknown): void
}

/** As long as `ws` waits for the answer to a close frame. */
const closeTimeoutMs = 30_000
/** Messages wait this long for their first listener: an asynchronous `connection` handler sets it late. */
const listenerPatienceMs = 5_000
/** A session that moves waits this long for listeners that are in flight. */
const settleMs = 1_000
const reasonBytesMax = 123

/** A session as a `ws` application sees it, whatever version of `ws` its socket object is made of. */
export class SocketCore {
  readonly session: Session
  readonly socket: HandshakeSocket
  readyState: number = ReadyState.open
  isPaused = false
  private readonly ws: BaseSocket
  private readonly host: SocketHost
  private readonly queue: SendQueue
  /** Of a message that is sent in pieces. */
  private fragments: { binary: boolean; parts: Buffer[] } | null = null
  /** The session has moved away; handlers that are in flight may still answer. */
  private left = false
  private over = false
  private terminated = false
  /** Nobody has listened to messages yet, but somebody may be about to. */
  private awaitsListener = true
  /** What asynchronous `message` listeners are doing. */
  private readonly running = new Set<Promise<void>>()
  private wake: (() => void) | null = null
  private timer: NodeJS.Timeout | undefined

  constructor(ws: BaseSocket, session: Session, socket: HandshakeSocket, host: SocketHost) {
    this.ws = ws
    this.session = session
    this.socket = socket
    this.host = host
    this.queue = new SendQueue(
      session,
      (error) => this.refusedAsTooLarge(error),
      () => void ws.emit('drain'),
    )
    ws._socket = socket
    ws.on('newListener', (event) => {
      if (event !== 'message') return
      this.awaitsListener = false
      this.wake?.()
    })
    // Applications may end a connection by its socket.
    socket.once('close', () => {
      if (!this.left) this.terminate()
    })
  }

  get bufferedAmount(): number {
    return this.queue.bytes
  }

  // What the application does.

  send(data: unknown, options: SendOptions | Done | undefined, callback?: Done): void {
    const done = typeof options === 'function' ? options : callback
    const { binary, fin = true } = typeof options === 'object' && options !== null ? options : {}
    if (this.readyState !== ReadyState.open) {
      later(done, notOpen(this.readyState))
      return
    }
    const whole = this.assemble(data, binary ?? !(typeof data === 'string' || typeof data === 'number'), fin)
    if (whole === null) later(done)
    else this.sendWhole(whole, done)
  }

  close(code?: number, reason?: string | Buffer): void {
    const text = checkedReason(code, reason)
    if (this.readyState !== ReadyState.open) return
    if (this.left) {
      this.finishLate()
      return
    }
    this.readyState = ReadyState.closing
    this.timer = setTimeout(() => this.terminate(), closeTimeoutMs).unref()
    const close = () => {
      if (this.session.open && !this.over) this.session.close(code ?? CloseCode.normal, text)
    }
    if (this.queue.isEmpty) close()
    else void this.queue.flushed().then(close)
  }

  terminate(): void {
    if (this.readyState === ReadyState.closed) return
    if (this.left) {
      this.finishLate()
      return
    }
    this.terminated = true
    this.readyState = ReadyState.closing
    this.queue.fail(notOpen(ReadyState.closing))
    if (this.session.open) this.session.close(CloseCode.goingAway, 'terminated')
    else this.ended(CloseCode.abnormal, '', true)
  }

  /** The gateway keeps the client's connection alive: while the session is here, its client is. */
  ping(data: unknown, mask?: unknown, callback?: Done): void {
    const payload = typeof data === 'function' ? '' : data
    this.control([data, mask, callback], () => this.ws.emit('pong', toBuffer(payload ?? '')))
  }

  pong(data: unknown, mask?: unknown, callback?: Done): void {
    this.control([data, mask, callback], () => {})
  }

  pause(): void {
    if (this.readyState !== ReadyState.closed) this.isPaused = true
  }

  resume(): void {
    if (this.readyState === ReadyState.closed) return
    this.isPaused = false
    this.wake?.()
  }

  // What happens to the session.

  /** The promise, if there is one, settles when the application has taken the message and the client the answers. */
  receive(data: string | Uint8Array): void | Promise<void> {
    if (!this.isHeard) return this.receiveLater(data)
    const running = this.emitMessage(data)
    if (running.length > 0 && this.host.sequential) return this.settled(running)
    if (!this.queue.isEmpty) return this.queue.flushed()
  }

  /** Resolves when the listeners that are in flight have ended, if they do so soon, and nothing that was sent waits for the client. */
  async quiet(): Promise<void> {
    if (this.running.size > 0) {
      const patience = Promise.withResolvers<void>()
      const timer = setTimeout(patience.resolve, settleMs)
      await Promise.race([Promise.all(this.running), patience.promise])
      clearTimeout(timer)
    }
    await this.queue.flushed()
  }

  /** The session goes on elsewhere. What handlers that are in flight send for some time still reaches the client. */
  leave(): void {
    if (this.over) return
    this.left = true
    clearTimeout(this.timer)
    if (this.readyState === ReadyState.open)
      this.timer = setTimeout(() => this.finishLate(), defaultLimits.lateOutputMs).unref()
    else this.readyState = ReadyState.closed
    this.emitClose(CloseCode.serviceRestart, 'migrated')
    this.ws.removeAllListeners('close')
  }

  /** `later`: the application has just caused it, and is not to hear of it before its call returns. */
  ended(code: number, reason: string, asLater: boolean): void {
    if (this.over) return
    this.over = true
    clearTimeout(this.timer)
    this.wake?.()
    this.readyState = asLater ? ReadyState.closing : ReadyState.closed
    this.queue.fail(notOpen(this.readyState))
    const emit = () => {
      this.readyState = ReadyState.closed
      if (this.terminated) this.emitClose(CloseCode.abnormal, '')
      else this.emitClose(code, reason)
    }
    if (asLater) setImmediate(emit)
    else emit()
  }

  private sendWhole(data: string | Uint8Array, done: Done | undefined): void {
    if (this.left) {
      this.sendLate(data, done)
      return
    }
    this.queue.push(data, done)
    if (this.queue.bytes <= this.host.maxBufferedBytes) return
    this.host.warn(
      `the client of session ${this.session.id} reads too slowly: ${this.queue.bytes} bytes wait for it; closed with ${CloseCode.slowConsumer}`,
    )
    this.queue.fail(new Error('the client reads too slowly'))
    this.session.close(CloseCode.slowConsumer, 'the client reads too slowly')
  }

  private sendLate(data: string | Uint8Array, done: Done | undefined): void {
    const current = this.host.current(this.session.id)
    // It has come back: behind what its new handlers have sent.
    if (current !== undefined && current !== this)
      current.send(data, { binary: typeof data !== 'string' }, done)
    else if (this.session.send(data)) later(done)
    else later(done, notOpen(ReadyState.closed))
  }

  /** Returns null for a piece of a message that is not the last one. */
  private assemble(data: unknown, binary: boolean, fin: boolean): string | Uint8Array | null {
    if (fin && this.fragments === null) {
      if (!binary) return typeof data === 'string' ? data : toBuffer(data).toString()
      return toBuffer(data)
    }
    this.fragments ??= { binary, parts: [] }
    // A copy: the application may use its buffer for the next piece.
    this.fragments.parts.push(Buffer.from(toBuffer(data)))
    if (!fin) return null
    const whole = Buffer.concat(this.fragments.parts)
    const isBinary = this.fragments.binary
    this.fragments = null
    return isBinary ? whole : whole.toString()
  }

  private refusedAsTooLarge(error: Error): void {
    this.host.warn(`session ${this.session.id}: ${error.message}; closed with ${CloseCode.tooBig}`)
    if (this.ws.listenerCount('error') > 0) this.ws.emit('error', error)
    this.close(CloseCode.tooBig, 'message too big')
  }

  private control(args: unknown[], answer: () => void): void {
    const done = args.find((argument) => typeof argument === 'function') as Done | undefined
    if (this.readyState !== ReadyState.open) {
      later(done, notOpen(this.readyState))
      return
    }
    later(done)
    setImmediate(() => {
      if (this.readyState === ReadyState.open && !this.left) answer()
    })
  }

  private get isHeard(): boolean {
    return this.over || (!this.isPaused && !this.awaitsListener)
  }

  private async receiveLater(data: string | Uint8Array): Promise<void> {
    while (!this.isHeard) {
      let patience: NodeJS.Timeout | undefined
      await new Promise<void>((resolve) => {
        this.wake = resolve
        if (this.isPaused) return
        patience = setTimeout(() => {
          this.awaitsListener = false
          resolve()
        }, listenerPatienceMs)
      })
      clearTimeout(patience)
    }
    this.wake = null
    if (this.over) return
    const running = this.emitMessage(data)
    await (this.host.sequential ? this.settled(running) : this.queue.flushed())
  }

  private async settled(running: Promise<void>[]): Promise<void> {
    await Promise.all(running)
    await this.queue.flushed()
  }

  /** Calls the listeners one by one, because `emit` does not say what they return. */
  private emitMessage(data: string | Uint8Array): Promise<void>[] {
    const { ws } = this
    const isText = typeof data === 'string'
    const payload = isText ? Buffer.from(data) : asBinaryType(data, ws.binaryType)
    const running: Promise<void>[] = []
    for (const listener of ws.rawListeners('message')) {
      const result: unknown = Reflect.apply(listener, ws, [payload, !isText])
      if (result instanceof Promise) running.push(this.follow(result))
    }
    return running
  }

  /** A promise that is never rejected: a listener that fails costs its connection, as one that throws. */
  private follow(result: Promise<unknown>): Promise<void> {
    const ended = result.then(
      () => {},
      (error: unknown) => {
        this.host.failed(this.session, error)
        if (this.session.open && !this.over && !this.left)
          this.session.close(CloseCode.internalError, 'handler failed')
      },
    )
    this.running.add(ended)
    void ended.then(() => this.running.delete(ended))
    return ended
  }

  private emitClose(code: number, reason: string): void {
    this.ws._closeFrameReceived = code !== CloseCode.abnormal
    this.ws._closeFrameSent = code !== CloseCode.abnormal
    this.socket.finish()
    this.ws.emit('close', code, Buffer.from(reason))
  }

  private finishLate(): void {
    if (this.over) return
    this.over = true
    clearTimeout(this.timer)
    this.readyState = ReadyState.closed
    // For those alone who have waited for it since it left, such as a stream that is destroyed.
    this.ws.emit('close', CloseCode.serviceRestart, Buffer.from('migrated'))
  }
}

function notOpen(state: number): Error {
  const name = state === ReadyState.closing ? 'CLOSING' : 'CLOSED'
  return new Error(`WebSocket is not open: readyState ${state} (${name})`)
}

/** Throws what `ws` throws. */
function checkedReason(code: number | undefined, reason: string | Buffer = ''): string {
  if (code !== undefined && (typeof code !== 'number' || !isSendableCloseCode(code)))
    throw new TypeError('First argument must be a valid error code number')
  if (Buffer.byteLength(reason) > reasonBytesMax)
    throw new RangeError(`The message must not be greater than ${reasonBytesMax} bytes`)
  return reason.toString()
}

function toBuffer(data: unknown): Buffer {
  if (Buffer.isBuffer(data)) return data
  if (data === undefined || data === null || data === '') return Buffer.alloc(0)
  if (ArrayBuffer.isView(data)) return Buffer.from(data.buffer, data.byteOffset, data.byteLength)
  if (data instanceof Blob) throw new TypeError('a Blob cannot be sent here; send await blob.arrayBuffer()')
  if (typeof data === 'number') return Buffer.from(String(data))
  return Buffer.from(data as string)
}

function asBinaryType(data: Uint8Array, type: string): unknown {
  if (type === 'arraybuffer') return data.buffer.slice(data.byteOffset, data.byteOffset + data.length)
  if (type === 'fragments') return [data]
  if (type === 'blob') return new Blob([data as Uint8Array<ArrayBuffer>])
  return data
}
