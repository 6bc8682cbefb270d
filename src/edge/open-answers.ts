import type { ServerResponse } from 'node:http'

/** Answers that only this gateway can finish: who asked cannot go on elsewhere. */
export class OpenAnswers {
  private readonly open = new Set<ServerResponse>()
  private waiting: (() => void)[] = []

  add(response: ServerResponse): void {
    this.open.add(response)
    response.once('close', () => {
      this.open.delete(response)
      if (this.open.size > 0) return
      for (const wake of this.waiting) wake()
      this.waiting = []
    })
  }

  /** Resolves when none is open, at the latest after this time. */
  async finished(withinMs: number): Promise<void> {
    if (this.open.size === 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, withinMs)
      this.waiting.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }
}
