/** Runs tasks one after the other, at once where none is in the way. Tasks must not throw or reject. */
export class SerialQueue {
  readonly #tasks: (() => Promise<unknown> | null)[] = []
  #busy = false

  push(task: () => Promise<unknown> | null): void {
    this.#tasks.push(task)
    if (!this.#busy) this.#run()
  }

  /** Forgets the tasks that have not begun. */
  clear(): void {
    this.#tasks.length = 0
  }

  #run(): void {
    this.#busy = true
    for (let task = this.#tasks.shift(); task !== undefined; task = this.#tasks.shift()) {
      const wait = task()
      if (wait === null) continue
      void wait.then(() => this.#run())
      return
    }
    this.#busy = false
  }
}
