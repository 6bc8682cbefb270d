/** The channels that a resumable session is in, as far as its node knows. */
export class JoinedChannels {
  private names = new Set<string>()
  /** What the session did here before the gateway said where it had been; null once it has. */
  private early: Map<string, boolean> | null = new Map()

  list(): string[] {
    return [...this.names]
  }

  join(name: string): void {
    this.names.add(name)
    this.early?.set(name, true)
  }

  leave(name: string): void {
    this.names.delete(name)
    this.early?.set(name, false)
  }

  /** The session was in these channels when it came; what it has done since goes on top. */
  inherit(names: readonly string[]): void {
    this.names = new Set(names)
    for (const [name, isIn] of this.early ?? []) {
      if (isIn) this.names.add(name)
      else this.names.delete(name)
    }
    this.early = null
  }
}
