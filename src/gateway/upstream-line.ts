import type { UpstreamConnection, UpstreamDial, UpstreamListener } from './upstream-connection.ts'
import type { UpstreamEntry } from './upstream-entry.ts'

/** Who has the line. */
export interface LineOwner {
  lineMessage(line: UpstreamLine, data: Buffer, text: boolean): void
  lineDrained(line: UpstreamLine): void
  lineClosed(line: UpstreamLine, code: number, reason: string): void
}

/** A connection to an upstream, from the dial on; it can be given up at any time. */
export class UpstreamLine implements UpstreamListener {
  readonly entry: UpstreamEntry
  connection: UpstreamConnection | null = null
  private owner: LineOwner | null = null
  private end: { code: number; reason: string } | null = null
  private readonly abort = new AbortController()

  constructor(entry: UpstreamEntry) {
    this.entry = entry
  }

  /** Rejects as `UpstreamDial.open` does. Once it is given up, what comes of it is closed. */
  async open(dial: UpstreamDial): Promise<void> {
    const connection = await dial.open(this.entry, this, this.abort.signal)
    if (this.abort.signal.aborted) {
      connection.terminate()
      throw new Error('the line was given up')
    }
    this.connection = connection
  }

  /** In place of `open`, where the connection was made already. */
  adopt(connection: UpstreamConnection): void {
    this.connection = connection
  }

  get givenUp(): boolean {
    return this.abort.signal.aborted
  }

  get ended(): boolean {
    return this.end !== null
  }

  /** What has happened before is told now. */
  own(owner: LineOwner): void {
    this.owner = owner
    if (this.end !== null) owner.lineClosed(this, this.end.code, this.end.reason)
  }

  message(data: Buffer, text: boolean): void {
    this.owner?.lineMessage(this, data, text)
  }

  drained(): void {
    this.owner?.lineDrained(this)
  }

  closed(code: number, reason: string): void {
    this.end = { code, reason }
    this.owner?.lineClosed(this, code, reason)
  }

  /** Nobody hears of it any more. */
  terminate(): void {
    this.owner = null
    this.abort.abort()
    if (this.end === null) this.connection?.terminate()
  }
}
