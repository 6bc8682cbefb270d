/** Keeps what happened, and lets a test wait for it. */
export class Recorder<T> {
  readonly items: T[] = []
  private readonly checks = new Set<() => void>()

  readonly add = (item: T): void => {
    this.items.push(item)
    for (const check of [...this.checks]) check()
  }

  /** Resolves when the items satisfy the condition; rejects after `timeoutMs` and shows what there is. */
  async until(isDone: (items: readonly T[]) => boolean, timeoutMs = 20_000): Promise<void> {
    if (isDone(this.items)) return
    await new Promise<void>((resolve, reject) => {
      const end = (settle: () => void) => {
        clearTimeout(timer)
        this.checks.delete(check)
        settle()
      }
      const check = () => isDone(this.items) && end(resolve)
      const timer = setTimeout(() => {
        const last = JSON.stringify(this.items.slice(-20))
        end(() =>
          reject(new Error(`not within ${timeoutMs} ms; ${this.items.length} items, the last: ${last}`)),
        )
      }, timeoutMs)
      this.checks.add(check)
    })
  }
}
