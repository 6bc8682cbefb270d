/** Of one session. As many as its inbox holds, so that none is forgotten before its message is committed. */
const keysMax = 256

/** Which message came with which idempotency key; the newest ones of a session. */
export class KeyedMessages {
  private readonly seqs = new Map<string, number>()

  get(key: string): number | undefined {
    return this.seqs.get(key)
  }

  remember(key: string, seq: number): void {
    this.seqs.delete(key)
    this.seqs.set(key, seq)
    if (this.seqs.size > keysMax) this.seqs.delete(this.seqs.keys().next().value!)
  }

  forget(isGone: (seq: number) => boolean): void {
    for (const [key, seq] of this.seqs) if (isGone(seq)) this.seqs.delete(key)
  }

  /** The oldest first. */
  entries(): [key: string, seq: number][] {
    return [...this.seqs]
  }
}
