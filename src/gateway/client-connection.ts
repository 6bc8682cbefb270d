/** Messages of one channel and one event-loop turn, on their way to all members. */
export class SharedMessages {
  readonly messages: readonly { readonly payload: Buffer; readonly text: boolean }[]
  /** Encoded by the first connection of each transport that needs it. */
  readonly encoded: { websocket?: Buffer; sse?: string[] } = {}

  constructor(messages: SharedMessages['messages']) {
    this.messages = messages
  }
}

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
  /**
   * Delivers what a channel got in this turn. The same object goes to all members, so that each transport encodes it once.
   */
  deliverShared(messages: SharedMessages): void
  /** False when the client has not taken what was written before: then `Session.connectionDrained` follows. */
  keepsUp(): boolean
  /** Stop and go on reading what the client sends. */
  pause(): void
  resume(): void
  close(code: number, reason: string): void
}
