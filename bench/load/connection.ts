import { connect, type Socket } from 'node:net'
import { maskedFrame } from './payload.ts'

const handshakeKey = 'dGhlIHNhbXBsZSBub25jZQ=='
const handshakeAnswer = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='
const headerEnd = Buffer.from('\r\n\r\n')

/**
 * One read buffer for all connections: every read is consumed before its callback returns, and a buffer
 * for each would cost the generator more memory traffic than the messages themselves.
 */
const readBuffer = Buffer.allocUnsafeSlow(256 * 1024)

/** Loopback has about 28,000 ephemeral ports for one pair of addresses; past this, more source addresses. */
const connectionsPerSource = 20_000

export interface ConnectionEvents {
  /** Whole data frames from `start` on; returns how many bytes it consumed. */
  frames(connection: Connection, buffer: Buffer, start: number, end: number): number
  opened(connection: Connection): void
  /** Also when it never opened. */
  closed(connection: Connection, reason: string): void
}

export interface ConnectionTarget {
  port: number
  path: string
}

/** A WebSocket client on a bare socket: the handshake, what a read left over, and control frames. */
export class Connection {
  readonly id: number
  readonly socket: Socket
  phase: 'handshake' | 'open' | 'closed' = 'handshake'
  /** Sequence of the next message, and of the next echo. */
  nextSend = 0
  nextEcho = 0
  #rest: Buffer | null = null
  #events: ConnectionEvents

  constructor(id: number, target: ConnectionTarget, events: ConnectionEvents) {
    this.id = id
    this.#events = events
    this.socket = connect({
      host: '127.0.0.1',
      port: target.port,
      noDelay: true,
      ...(id >= connectionsPerSource && { localAddress: sourceAddress(id) }),
      onread: {
        buffer: readBuffer,
        callback: (bytes) => {
          this.#read(readBuffer, bytes)
          return true
        },
      },
    })
    this.socket.once('connect', () => this.socket.write(handshakeRequest(target)))
    this.socket.on('error', (error) => this.fail(error.message))
    this.socket.on('close', () => this.fail('closed by the server'))
  }

  fail(reason: string): void {
    if (this.phase === 'closed') return
    this.phase = 'closed'
    this.#events.closed(this, reason)
    this.socket.destroy()
  }

  /** Leaves without an event. */
  discard(): void {
    this.phase = 'closed'
    this.socket.destroy()
  }

  #read(buffer: Buffer, bytes: number): void {
    if (this.phase === 'closed') return
    let data = buffer
    let end = bytes
    if (this.#rest !== null) {
      data = Buffer.concat([this.#rest, buffer.subarray(0, bytes)])
      end = data.length
      this.#rest = null
    }
    const start = this.phase === 'handshake' ? this.#finishHandshake(data, end) : 0
    const used = this.phase === 'open' ? this.#events.frames(this, data, start, end) : start
    if (used < end) this.#rest = Buffer.from(data.subarray(used, end))
  }

  #finishHandshake(data: Buffer, end: number): number {
    const at = data.subarray(0, end).indexOf(headerEnd)
    if (at < 0) return 0
    const answer = data.toString('latin1', 0, at)
    if (!answer.startsWith('HTTP/1.1 101') || !answer.includes(handshakeAnswer)) {
      this.fail(`handshake refused: ${answer.slice(0, 80).replaceAll('\r\n', ' ')}`)
      return end
    }
    this.phase = 'open'
    this.#events.opened(this)
    return at + headerEnd.length
  }

  /** Ping and close; the payload is copied because the read buffer is shared. */
  control(opcode: number, payload: Buffer): void {
    if (opcode === 0x9) this.socket.write(maskedFrame(0xa, payload))
    if (opcode === 0x8)
      this.fail(`close frame ${payload.length >= 2 ? payload.readUInt16BE(0) : 'without code'}`)
  }
}

function sourceAddress(id: number): string {
  return `127.0.0.${1 + Math.floor(id / connectionsPerSource)}`
}

export function handshakeRequest(target: ConnectionTarget): string {
  return [
    `GET ${target.path} HTTP/1.1`,
    `Host: 127.0.0.1:${target.port}`,
    'Upgrade: websocket',
    'Connection: Upgrade',
    `Sec-WebSocket-Key: ${handshakeKey}`,
    'Sec-WebSocket-Version: 13',
    '',
    '',
  ].join('\r\n')
}
