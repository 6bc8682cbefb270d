import { setTimeout as sleep } from 'node:timers/promises'
import type { OpenResult } from './commands.ts'

/** Handshakes in flight at once. */
const connectWindow = 64
const connectTimeoutMs = 60_000

/** Opens many connections without storming the server, and counts what becomes of them. */
export class Opening {
  running = false
  opened = 0
  failed = 0

  /** `connect` starts the next handshake. */
  async run(connections: number, notes: string[], connect: () => void): Promise<OpenResult> {
    const begin = performance.now()
    const deadline = begin + connectTimeoutMs
    this.running = true
    for (let started = 0; this.settled < connections && performance.now() < deadline; await sleep(1))
      for (; started < Math.min(connections, this.settled + connectWindow); started++) connect()
    this.running = false
    return {
      open: this.opened,
      failed: connections - this.opened,
      seconds: (performance.now() - begin) / 1000,
      notes,
    }
  }

  private get settled(): number {
    return this.opened + this.failed
  }
}
