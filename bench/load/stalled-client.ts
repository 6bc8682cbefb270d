import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { StallResult } from './commands.ts'
import { type ConnectionTarget, handshakeRequest } from './connection.ts'
import { maskedFrame } from './payload.ts'

/** A client that asks for a lot and then does not read. */
export class StalledClient {
  #socket: Socket
  #received = 0
  #closedByServer = false
  #tail = Buffer.alloc(0)

  constructor(target: ConnectionTarget, request: string) {
    this.#socket = connect({ host: '127.0.0.1', port: target.port, noDelay: true })
    this.#socket.write(handshakeRequest(target))
    this.#socket.once('data', () => {
      this.#socket.pause()
      this.#socket.write(maskedFrame(0x1, Buffer.from(request)))
      this.#socket.on('data', (chunk: Buffer) => this.#count(chunk))
      this.#socket.pause()
    })
    this.#socket.on('error', () => this.#socket.destroy())
    this.#socket.on('close', () => {
      this.#closedByServer = true
    })
  }

  async finish(forMs: number): Promise<StallResult> {
    this.#socket.resume()
    const deadline = performance.now() + forMs
    let seen = -1
    while (!this.#closedByServer && performance.now() < deadline && seen !== this.#received) {
      seen = this.#received
      await sleep(500)
    }
    const result = {
      receivedBytes: this.#received,
      closedByServer: this.#closedByServer,
      closeCode: this.#closeCode(),
    }
    this.#socket.destroy()
    return result
  }

  #count(chunk: Buffer): void {
    this.#received += chunk.length
    this.#tail = Buffer.from(chunk.subarray(-128))
  }

  /** A close frame is the last thing on the wire: 0x88, length, code, reason. */
  #closeCode(): number | null {
    for (let at = this.#tail.length - 4; at >= 0; at--)
      if (this.#tail[at] === 0x88 && this.#tail[at + 1] === this.#tail.length - at - 2)
        return this.#tail.readUInt16BE(at + 2)
    return null
  }
}
