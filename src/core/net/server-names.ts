/** DNS names that a certificate is for; `*.` in front stands for one label (RFC 9525 §6.3). */
export interface Named<T> {
  readonly names: readonly string[]
  readonly value: T
}

/** Finds what belongs to the server name that a client asks for (SNI). */
export class ServerNames<T> {
  private readonly exact = new Map<string, T>()
  private readonly wildcards = new Map<string, T>()
  private readonly fallback: T

  /** The first one that has a name gets it; the first one of all is for clients that ask for none, or for another one. */
  constructor(entries: readonly [Named<T>, ...Named<T>[]]) {
    this.fallback = entries[0].value
    for (const { names, value } of entries) {
      for (const name of names) {
        const lower = normal(name)
        const target = lower.startsWith('*.') ? this.wildcards : this.exact
        const key = lower.startsWith('*.') ? lower.slice(2) : lower
        if (!target.has(key)) target.set(key, value)
      }
    }
  }

  /** A name in full comes before a wildcard. */
  find(name: string): T {
    const lower = normal(name)
    const dot = lower.indexOf('.')
    return (
      this.exact.get(lower) ??
      (dot > 0 ? this.wildcards.get(lower.slice(dot + 1)) : undefined) ??
      this.fallback
    )
  }
}

/** A DNS name, or one with `*.` in front. */
export const serverNamePattern =
  /^(?:\*\.)?(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/

function normal(name: string): string {
  return name.toLowerCase().replace(/\.$/, '')
}
