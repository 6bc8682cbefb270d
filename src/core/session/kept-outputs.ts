export interface KeptOutput {
  readonly seq: number
  readonly payload: Buffer
  readonly text: boolean
}

/** Outputs of a resumable session, in order and without gaps, until its client has acknowledged them. */
export class KeptOutputs {
  bytes = 0
  private outputs: KeptOutput[] = []

  get length(): number {
    return this.outputs.length
  }

  append(output: KeptOutput): void {
    this.outputs.push(output)
    this.bytes += output.payload.length
  }

  /** Forgets all up to `acked`; returns how many bytes that were. */
  prune(acked: number): number {
    let count = 0
    let freed = 0
    for (; count < this.outputs.length && this.outputs[count]!.seq <= acked; count++)
      freed += this.outputs[count]!.payload.length
    if (count > 0) this.outputs.splice(0, count)
    this.bytes -= freed
    return freed
  }

  all(): readonly KeptOutput[] {
    return this.outputs
  }
}
