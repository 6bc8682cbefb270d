/**
 * What is put off to the end of an event-loop turn, in two steps: first `collect` (make up what clients get), then `write`.
 * One `setImmediate` serves all, so that everything one client gets in a turn can leave in one write.
 */
export class Turn {
  private collecting: (() => void)[] = []
  private writing: (() => void)[] = []
  private scheduled = false

  collect(step: () => void): void {
    this.collecting.push(step)
    this.schedule()
  }

  write(step: () => void): void {
    this.writing.push(step)
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
    if (this.collecting.length > 0 || this.writing.length > 0) this.schedule()
  }
}
