import { setTimeout as sleep } from 'node:timers/promises'
import type { LoadErrors, OpenOptions, OpenResult } from './commands.ts'
import { Connection, type ConnectionEvents } from './connection.ts'
import { readFrameHead } from './frames.ts'
import { Histogram } from './histogram.ts'
import { Opening } from './opening.ts'
import { answerPacket } from './packets.ts'
import {
  echoedId,
  echoedSequence,
  echoedTimeUs,
  isAckOf,
  minimumPayloadBytes,
  stampAck,
  stampFrame,
  type Template,
  textFrameTemplate,
} from './payload.ts'
import { type Dialect, type Wrapping, wrappings } from './wrappings.ts'

const graceMs = 1_000
const maximumBatch = 64

export function nowUs(): number {
  return Math.floor(performance.now() * 1000)
}

/** Many echo clients: opens them, sends stamped messages and checks what comes back. */
export class Swarm implements ConnectionEvents {
  readonly connections: Connection[] = []
  readonly latency = new Histogram()
  readonly notes: string[] = []
  /** Answer every echo with the next message. */
  replying = false
  /** Echoes since the last `beginWindow`. */
  echoes = 0
  #errors: LoadErrors = { closed: 0, wrong: 0, missing: 0 }
  #windowStartUs = 0
  #windowEndUs = Infinity
  #wrapping: Wrapping
  #echoBytes: number
  #template: Template
  #filler: Buffer
  #scratch: Buffer = Buffer.alloc(0)
  #opening = new Opening()

  constructor(payloadBytes: number, dialect: Dialect = 'plain') {
    this.#wrapping = wrappings[dialect]
    this.#echoBytes = this.#wrapping.serverBefore.length + payloadBytes + this.#wrapping.after.length
    this.#template = textFrameTemplate(payloadBytes, this.#wrapping)
    this.#filler = Buffer.alloc(payloadBytes, 'abcdefghijklmnopqrstuvwxyz').subarray(minimumPayloadBytes)
    this.#renewScratch()
  }

  open(options: OpenOptions): Promise<OpenResult> {
    return this.#opening.run(options.connections, this.notes, () => {
      this.connections.push(new Connection(this.connections.length, options, this))
    })
  }

  beginWindow(): void {
    this.echoes = 0
    this.latency.reset()
    this.#windowStartUs = nowUs()
    this.#windowEndUs = Infinity
  }

  /** Returns the echoes counted; latencies of messages already sent are still added. */
  endWindow(): number {
    this.#windowEndUs = nowUs()
    return this.echoes
  }

  /** Waits for echoes under way, then counts what never came. */
  async settle(): Promise<LoadErrors> {
    const deadline = performance.now() + graceMs
    while (this.#underWay() > 0 && performance.now() < deadline) await sleep(5)
    this.#errors.missing = this.#underWay()
    return this.#errors
  }

  discard(): void {
    for (const connection of this.connections) connection.discard()
  }

  /** Several messages leave in one write, as a client that has them at once would do. */
  send(connection: Connection, count: number, sentAtUs: number): void {
    if (connection.phase !== 'open') return
    const { frameBytes, clientHeaderBytes, ackAt } = this.#template
    const scratch = this.#scratch
    for (let i = 0; i < count; i++) {
      if (ackAt !== null) stampAck(scratch, i * frameBytes + ackAt, connection.nextSend)
      stampFrame(scratch, i * frameBytes + clientHeaderBytes, connection.id, connection.nextSend, sentAtUs)
      connection.nextSend++
    }
    const socket = connection.socket
    socket.write(scratch.subarray(0, count * frameBytes))
    // Normally the kernel has taken all of it by now; what it has not must not be overwritten.
    if (socket.writableLength > 0) this.#renewScratch()
  }

  frames(connection: Connection, buffer: Buffer, start: number, end: number): number {
    const now = nowUs()
    let at = start
    let echoes = 0
    while (at < end) {
      const head = readFrameHead(buffer, at, end)
      const payloadAt = at + head.headerBytes
      const next = payloadAt + head.payloadBytes
      if (head.headerBytes === 0 || next > end) break
      if (head.opcode === 0x1 && head.final) {
        if (this.#text(connection, buffer, payloadAt, head.payloadBytes, now)) echoes++
      } else if (head.opcode >= 0x8) {
        connection.control(head.opcode, Buffer.from(buffer.subarray(payloadAt, next)))
      } else {
        this.#wrong(`unexpected frame: opcode ${head.opcode}, final ${head.final}`)
      }
      at = next
    }
    if (echoes > 0 && this.replying) this.send(connection, Math.min(echoes, maximumBatch), now)
    return at
  }

  opened(): void {
    if (this.#isPlain) this.#opening.opened++
  }

  closed(_connection: Connection, reason: string): void {
    if (this.#opening.running) this.#opening.failed++
    else this.#errors.closed++
    this.#note(reason)
  }

  get #isPlain(): boolean {
    return this.#wrapping.clientBefore === ''
  }

  /** Returns whether it was an echo. */
  #text(connection: Connection, buffer: Buffer, at: number, bytes: number, now: number): boolean {
    if (bytes === this.#echoBytes) {
      this.#echo(connection, buffer, at, now)
      return true
    }
    if (this.#isPlain) {
      this.#wrong(`echo of ${bytes} bytes`)
      return false
    }
    const packet = buffer.toString('latin1', at, at + bytes)
    const connected = answerPacket(connection, packet)
    if (connected === true) this.#opening.opened++
    else if (connected === null) this.#wrong(`unexpected packet ${packet.slice(0, 40)}`)
    return false
  }

  #echo(connection: Connection, buffer: Buffer, start: number, now: number): void {
    const { serverBefore, ackAt } = this.#wrapping
    const { payloadBytes } = this.#template
    const at = start + serverBefore.length
    const sequence = echoedSequence(buffer, at)
    if (echoedId(buffer, at) !== connection.id) {
      this.#wrong(`connection ${connection.id} got an echo of ${echoedId(buffer, at)}`)
      return
    }
    if (sequence !== connection.nextEcho)
      this.#wrong(`connection ${connection.id}: message ${sequence} came in place of ${connection.nextEcho}`)
    connection.nextEcho = sequence + 1
    if (
      buffer.compare(this.#filler, 0, this.#filler.length, at + minimumPayloadBytes, at + payloadBytes) !== 0
    )
      this.#wrong('damaged payload')
    if (ackAt !== null && !isAckOf(buffer, start + ackAt, sequence))
      this.#wrong(`another acknowledgement than that of ${sequence}`)
    const sentAt = echoedTimeUs(buffer, at)
    this.echoes++
    if (sentAt >= this.#windowStartUs && sentAt < this.#windowEndUs) this.latency.add(now - sentAt)
  }

  #underWay(): number {
    let count = 0
    for (const connection of this.connections)
      if (connection.phase === 'open') count += connection.nextSend - connection.nextEcho
    return count
  }

  #wrong(note: string): void {
    this.#errors.wrong++
    this.#note(note)
  }

  #note(text: string): void {
    if (this.notes.length < 8) this.notes.push(text)
  }

  #renewScratch(): void {
    const { frame, frameBytes } = this.#template
    this.#scratch = Buffer.allocUnsafeSlow(maximumBatch * frameBytes)
    for (let i = 0; i < maximumBatch; i++) this.#scratch.set(frame, i * frameBytes)
  }
}
