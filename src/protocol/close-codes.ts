import { utf8 } from './utf8.ts'

/**
 * WebSocket close codes that Evenkeel uses (RFC 6455 §7.4).
 * Ranges decide what a client does: 4000–4099 come back (now or after the hint), 4100–4199 do not.
 */
export const CloseCode = {
  normal: 1000,
  goingAway: 1001,
  protocolError: 1002,
  unsupportedData: 1003,
  noStatus: 1005,
  abnormal: 1006,
  invalidPayload: 1007,
  policy: 1008,
  tooBig: 1009,
  internalError: 1011,
  serviceRestart: 1012,
  tryAgainLater: 1013,
  /** The upstream's connection broke. */
  badGateway: 1014,
  slowConsumer: 4008,
  /** A frame that `evenkeel.v1` does not allow. */
  protocolViolation: 4100,
  /** The session goes on over another connection. */
  resumedElsewhere: 4101,
} as const

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
  if (utf8(reason).length <= 123) return reason
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
