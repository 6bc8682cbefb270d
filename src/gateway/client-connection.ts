import type { SessionMeta } from '../protocol/link-records.ts'
import type { Position } from '../protocol/position.ts'

/** A message of a channel. */
export interface SharedMessage {
  readonly payload: Buffer
  readonly text: boolean
  /** null: it is in no history. */
  readonly position: Position | null
}

/** A message as the pieces that a transport writes one by one, and as WebSocket frames in one. */
export interface EncodedPacket {
  readonly pieces: readonly (string | Buffer)[]
  readonly bytes: number
  readonly frames: Buffer
}

/** Messages of one channel on their way to several members. */
export class SharedMessages {
  readonly channel: string
  /** In the order of their positions, as far as they have any. */
  readonly messages: readonly SharedMessage[]
  /** Encoded by the first connection of each transport that needs it. */
  readonly encoded: {
    websocket?: Buffer
    websocketDeflated?: Buffer
    sse?: string[]
    resumable?: Buffer
    resumableDeflated?: Buffer
    tunnel?: string
    socketIo?: readonly EncodedPacket[]
    engineIo?: readonly EncodedPacket[]
  } = {}

  constructor(channel: string, messages: readonly SharedMessage[]) {
    this.channel = channel
    this.messages = messages
  }
}

/**
 * What a client is told of its place in a channel.
 * `joined`: it gets what comes behind the position. `continuous`: it has come back, and has got everything up to the
 * position. `gap`: messages up to the position may be missing.
 */
export type ChannelVerdict = 'joined' | 'continuous' | 'gap'

/** A client's connection as the gateway sees it, whatever the transport is. */
export interface ClientConnection {
  readonly transport: SessionMeta['transport']
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
  /**
   * Tells the client about its place in a channel, in order with the messages of the channel. `position` is null when the
   * channel has no history, none yet, or none that can be reached. Absent where the client has no use for it.
   */
  verdict?(channel: string, verdict: ChannelVerdict, position: Position | null): void
  /** Whether what may be lost would be written at once. Absent: as `keepsUp` says. */
  takesVolatile?(): boolean
  /** False when the client has not taken what was written before: then `Session.connectionDrained` follows. */
  keepsUp(): boolean
  /** Stop and go on reading what the client sends. */
  pause(): void
  resume(): void
  close(code: number, reason: string): void
}
