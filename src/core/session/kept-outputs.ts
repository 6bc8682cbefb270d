export interface KeptOutput<Data> {
  readonly seq: number
  readonly data: Data
  /** Of the payload in a record. */
  readonly bytes: number
}

/**
 * The outputs of a resumable session that its client has not acknowledged, in the order of `seq`.
 * Those of earlier assignments (TAIL) may come when this one has made some of its own; until the last of them is there,
 * they take up credit but there is a gap between them and the others.
 */
export class KeptOutputs<Data> {
  bytes = 0
  /** Without a gap. */
  private outputs: KeptOutput<Data>[] = []
  /** TAIL as far as it came; without a gap, and empty once it joins `outputs`. */
  private tail: KeptOutput<Data>[] = []
  /** The last output that was made, here or before. */
  private last: number
  /** The last output of earlier assignments. */
  private readonly base: number
  private acked = 0

  /** `base`: the last output that was made before. */
  constructor(base: number) {
    this.base = base
    this.last = base
  }

  /** The output behind the last one. */
  append(seq: number, data: Data, bytes: number): void {
    this.outputs.push({ seq, data, bytes })
    this.last = seq
    this.bytes += bytes
  }

  /** The next output of an earlier assignment. Returns false, and keeps nothing, when it is none. */
  appendTail(seq: number, data: Data, bytes: number): boolean {
    const isWhole = this.first <= this.base
    const expected = this.tail.length > 0 ? this.tail.at(-1)!.seq + 1 : seq
    if (isWhole || seq !== expected || seq > this.base || seq <= this.acked) return false
    this.tail.push({ seq, data, bytes })
    this.bytes += bytes
    if (seq === this.base) {
      this.outputs = this.tail.concat(this.outputs)
      this.tail = []
    }
    return true
  }

  /** The client has all outputs up to `out`. Returns the bytes that they took up. */
  prune(out: number): number {
    const before = this.bytes
    this.acked = Math.max(this.acked, Math.min(out, this.last))
    this.pruneList(this.tail)
    this.pruneList(this.outputs)
    return before - this.bytes
  }

  /** Whether every output behind `out` is here. */
  reaches(out: number): boolean {
    return out >= this.first - 1 && out <= this.last
  }

  /** Every output behind this one is here. */
  get keptFrom(): number {
    return this.first - 1
  }

  /** All outputs behind `out`. */
  behind(out: number): KeptOutput<Data>[] {
    return this.outputs.slice(Math.max(0, out + 1 - this.first))
  }

  /** The first output from which on nothing is missing. */
  private get first(): number {
    return this.outputs[0]?.seq ?? this.last + 1
  }

  private pruneList(list: KeptOutput<Data>[]): void {
    let count = 0
    for (; count < list.length && list[count]!.seq <= this.acked; count++) this.bytes -= list[count]!.bytes
    if (count > 0) list.splice(0, count)
  }
}
