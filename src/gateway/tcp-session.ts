import { Session } from './session.ts'
import type { UpstreamEntry } from './upstream-entry.ts'

/**
 * A client that is connected to its upstream byte for byte. The bytes go past the session; it is there to be counted, seen, drained
 * and cut.
 */
export class TcpSession extends Session {
  declare node: UpstreamEntry | null

  begin(entry: UpstreamEntry): void {
    this.assign(entry, this.nextTerm())
  }

  /** Bytes went from the client (`sent`) and to it since the last call. */
  moved(sent: number, got: number): void {
    const { tcpBytes } = this.host.counters
    tcpBytes.in += sent
    tcpBytes.out += got
    if (this.node !== null) this.node.bytes += sent + got
    this.meter?.count(sent + got)
  }

  override get movable(): boolean {
    return false
  }

  override pump(): void {}

  /** Half of a connection is worth nothing. */
  protected override clientLeft(): void {
    this.end()
  }
}
