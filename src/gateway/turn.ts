/**
 * What is put off to the end of an event-loop turn, in steps: first `collect` (make up what clients get), then `write`, and then what can
 * wait (`next`). One `setImmediate` serves all, so that everything one client gets in a turn can leave in one write.
 */
export class Turn {
  private collecting: (() => void)[] = []
  private writing: (() => void)[] = []
  private waiting: (() => void)[] = []
  /** Of those who wait the ones that were here when the last turn ended. */
  private due: (() => void)[] = []
  private scheduled = false

  collect(step: () => void): void {
    this.collecting.push(step)
    this.schedule()
  }

  write(step: () => void): void {
    this.writing.push(step)
    this.schedule()
  }

  /** At the end of the turn that follows: whatever has arrived by then for others is read, and has left, before. */
  next(step: () => void): void {
    this.waiting.push(step)
    this.schedule()
  }

  private schedule(): void {
    if (this.scheduled) return
    this.scheduled = true
    setImmediate(this.run)
  }

  private readonly run = (): void => {
    this.scheduled = false
    const { collecting } = this
    this.collecting = []
    for (const step of collecting) step()
    const { writing } = this
    this.writing = []
    for (const step of writing) step()
    for (const step of this.due) step()
    this.due = this.waiting
    this.waiting = []
    if (this.collecting.length + this.writing.length + this.due.length > 0) this.schedule()
  }
}
