import { Worker } from 'node:worker_threads'

/**
 * Calls `tick` evenly, `rate` times per second. Timers of the event loop are too coarse (1 ms) and spinning
 * would take one of few cores from what is measured, so a thread sleeps to each due time and posts a message.
 */
export class Pacer {
  #worker: Worker

  constructor(rate: number, tick: () => void) {
    this.#worker = new Worker(new URL('./pacer-thread.ts', import.meta.url), { workerData: { rate } })
    this.#worker.on('message', tick)
  }

  async stop(): Promise<void> {
    this.#worker.removeAllListeners('message')
    await this.#worker.terminate()
  }
}
