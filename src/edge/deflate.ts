import { constants, deflateRawSync } from 'node:zlib'
import type { PerMessageDeflateOptions } from 'ws'

/** `permessage-deflate` (RFC 7692) with clients that offer it. */
export interface DeflateSettings {
  /** Bytes; shorter messages to clients are not compressed. */
  readonly threshold: number
  readonly windowBits: number
  readonly memoryLevel: number
  /** Messages of clients that are inflated at once. */
  readonly concurrency: number
  readonly noContextTakeover: boolean
}

/** Larger messages go as they are: it is done in the event loop, which others wait for. */
const bytesMost = 128 * 1024
/** What a sync flush ends with, and a message does not (RFC 7692 §7.2.1). */
const tailBytes = 4
const extension = /^sec-websocket-extensions:.*\bpermessage-deflate\b/i
const window = /\bserver_max_window_bits="?(\d+)/i

/**
 * Compresses messages to clients, each by itself: so the compressor is gone when it is done, and what a channel got is compressed
 * once for all its members. It is done at once, so that nothing overtakes; messages of clients are inflated by `ws`.
 */
export class Deflater {
  private readonly settings: DeflateSettings

  constructor(settings: DeflateSettings) {
    this.settings = settings
  }

  /** What `ws` is to negotiate. */
  get options(): PerMessageDeflateOptions {
    const { windowBits, memoryLevel, concurrency, noContextTakeover } = this.settings
    return {
      serverNoContextTakeover: true,
      clientNoContextTakeover: noContextTakeover,
      concurrencyLimit: concurrency,
      zlibDeflateOptions: { windowBits, memLevel: memoryLevel },
    }
  }

  /** Whether a client that was answered so can read what is compressed here; one with a smaller window gets messages as they are. */
  suits(answer: readonly string[]): boolean {
    const line = answer.find((one) => extension.test(one))
    if (line === undefined) return false
    const bits = window.exec(line)?.[1]
    return bits === undefined || Number(bits) >= this.settings.windowBits
  }

  /** Whether a message of so many bytes is compressed at all. */
  mayPack(bytes: number): boolean {
    return bytes >= this.settings.threshold && bytes <= bytesMost
  }

  /** null: better as it is. */
  pack(message: Buffer): Buffer | null {
    const { length } = message
    if (!this.mayPack(length)) return null
    const { windowBits, memoryLevel: memLevel } = this.settings
    const level = constants.Z_BEST_SPEED
    const packed = deflateRawSync(message, {
      windowBits,
      memLevel,
      level,
      finishFlush: constants.Z_SYNC_FLUSH,
    })
    return packed.length - tailBytes < length ? packed.subarray(0, -tailBytes) : null
  }
}
