/** A client's connection as the gateway sees it, whatever the transport is. */
export interface ClientConnection {
  readonly transport: 'websocket' | 'sse'
  /** What was delivered and the client's socket has not taken, in bytes. */
  readonly pendingBytes: number
  /**
   * Delivers the bytes `start` to `end` of `batch` as one message; they stay valid, nothing needs to be copied.
   * Returns false when the client does not keep up: `Session.connectionDrained` follows once it does again.
   */
  deliver(batch: Buffer, start: number, end: number, text: boolean): boolean
  /** Stop and go on reading what the client sends. */
  pause(): void
  resume(): void
  close(code: number, reason: string): void
}
