import { isLongerThan, utf8 } from './utf8.ts'

export * as CloseCode from './close-code.ts'

/** Close codes of the link between a gateway and a node. */
export const LinkCloseCode = {
  /** The node is done here: drained, or told to stop. */
  goodbye: 4000,
  /** The gateway stops; come back elsewhere or later. */
  gatewayStopping: 4001,
  /** A record or a handshake that the protocol forbids. Fix the node. */
  protocolError: 4400,
  /** The versions of gateway and node do not fit. */
  unsupportedVersion: 4405,
  /** HELLO did not arrive in time. */
  handshakeTimeout: 4408,
  /** Another live process announced this id. */
  duplicateId: 4409,
  /** The gateway declared this node down and moved its sessions; dial again with a clean table. */
  declaredDown: 4410,
  /** The other side was silent for too long. */
  silent: 4411,
} as const

/** True when an application may put the code into a close frame (RFC 6455 §7.4.2, as `ws` checks it). */
export function isSendableCloseCode(code: number): boolean {
  return (
    (code >= 1000 && code <= 1014 && code !== 1004 && code !== 1005 && code !== 1006) ||
    (code >= 3000 && code <= 4999)
  )
}

/** A close reason that fits into a close frame: at most 123 bytes of UTF-8, cut at a character. */
export function clipCloseReason(reason: string): string {
  if (!isLongerThan(reason, 123)) return reason
  let clipped = ''
  let bytes = 0
  // By characters, not by UTF-16 units: half a pair would become a replacement character.
  for (const character of reason) {
    bytes += utf8(character).length
    if (bytes > 123) break
    clipped += character
  }
  return clipped
}
