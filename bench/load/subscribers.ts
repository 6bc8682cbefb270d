import { setTimeout as sleep } from 'node:timers/promises'
import { sharedClockUs } from '../measure/clock.ts'
import { broadcastBytes, broadcastSequence, broadcastTimeUs, isBroadcastIntact } from './broadcast.ts'
import type { DeliveryResult, OpenResult, SubscribeOptions } from './commands.ts'
import { Connection, type ConnectionEvents } from './connection.ts'
import { readFrameHead } from './frames.ts'
import { Histogram } from './histogram.ts'
import { Opening } from './opening.ts'
import { answerPacket } from './packets.ts'
import { type Dialect, wrappings } from './wrappings.ts'

/** Many clients that only listen: every one is to get every message once and in order. */
export class Subscribers implements ConnectionEvents {
  readonly #connections: Connection[] = []
  readonly #notes: string[] = []
  readonly #latency = new Histogram()
  readonly #opening = new Opening()
  readonly #dialect: Dialect
  #deliveries = 0
  #reads = 0
  #closed = 0
  #wrong = 0
  #cpuBefore = process.cpuUsage()

  constructor(dialect: Dialect) {
    this.#dialect = dialect
  }

  open({ ports, path, connections }: SubscribeOptions): Promise<OpenResult> {
    return this.#opening.run(connections, this.#notes, () => {
      const id = this.#connections.length
      this.#connections.push(new Connection(id, { port: ports[id % ports.length]!, path }, this))
    })
  }

  /** Faults are kept: one before the window spoils what follows. */
  beginWindow(): void {
    this.#deliveries = 0
    this.#reads = 0
    this.#latency.reset()
    this.#cpuBefore = process.cpuUsage()
  }

  endWindow(): DeliveryResult {
    const { user, system } = process.cpuUsage(this.#cpuBefore)
    return {
      deliveries: this.#deliveries,
      reads: this.#reads,
      closed: this.#closed,
      wrong: this.#wrong,
      notes: this.#notes,
      latencyUs: this.#latency.summary(),
      generatorCpuNs: (user + system) * 1000,
    }
  }

  /** Waits until all have message `sequence`; returns how many have not. */
  async lacking(sequence: number, timeoutMs: number): Promise<number> {
    const deadline = performance.now() + timeoutMs
    while (this.#behind(sequence) > 0 && performance.now() < deadline) await sleep(20)
    return this.#behind(sequence)
  }

  discard(): void {
    for (const connection of this.#connections) connection.discard()
  }

  frames(connection: Connection, buffer: Buffer, start: number, end: number): number {
    const now = sharedClockUs()
    this.#reads++
    let at = start
    while (at < end) {
      const head = readFrameHead(buffer, at, end)
      const payloadAt = at + head.headerBytes
      const next = payloadAt + head.payloadBytes
      if (head.headerBytes === 0 || next > end) break
      if (head.opcode === 0x1 && head.final) this.#text(connection, buffer, payloadAt, head.payloadBytes, now)
      else if (head.opcode >= 0x8)
        connection.control(head.opcode, Buffer.from(buffer.subarray(payloadAt, next)))
      else this.#fault(`unexpected frame: opcode ${head.opcode}, final ${head.final}`)
      at = next
    }
    return at
  }

  opened(): void {
    this.#opening.opened++
  }

  closed(_connection: Connection, reason: string): void {
    if (this.#opening.running) this.#opening.failed++
    else this.#closed++
    this.#note(reason)
  }

  #text(connection: Connection, buffer: Buffer, at: number, bytes: number, now: number): void {
    const { serverBefore, after } = wrappings[this.#dialect]
    if (bytes === serverBefore.length + broadcastBytes + after.length)
      this.#delivery(connection, buffer, at + serverBefore.length, now)
    else if (this.#dialect === 'plain') this.#fault(`message of ${bytes} bytes`)
    else this.#packet(connection, buffer.toString('latin1', at, at + bytes))
  }

  #delivery(connection: Connection, buffer: Buffer, at: number, now: number): void {
    const sequence = broadcastSequence(buffer, at)
    // What comes first depends on when the subscription took effect; from then on nothing may be missing.
    const { nextEcho } = connection
    if (nextEcho !== 0 && sequence !== nextEcho)
      this.#fault(`connection ${connection.id}: message ${sequence} came in place of ${nextEcho}`)
    connection.nextEcho = sequence + 1
    if (!isBroadcastIntact(buffer, at)) this.#fault('damaged payload')
    this.#deliveries++
    this.#latency.add(now - broadcastTimeUs(buffer, at))
  }

  #packet(connection: Connection, packet: string): void {
    if (answerPacket(connection, packet) === null) this.#fault(`unexpected packet ${packet.slice(0, 40)}`)
  }

  #behind(sequence: number): number {
    let count = 0
    for (const { nextEcho } of this.#connections) if (nextEcho !== sequence + 1) count++
    return count
  }

  #fault(note: string): void {
    this.#wrong++
    this.#note(note)
  }

  #note(text: string): void {
    if (this.#notes.length < 8) this.#notes.push(text)
  }
}
