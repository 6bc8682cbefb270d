/**
 * WebSocket close codes that Evenkeel uses (RFC 6455 §7.4).
 * Ranges decide what a client does: 4000–4099 come back (now or after the hint), 4100–4199 do not. After 4401 it may, with another token.
 * Each by itself, so that the client library carries only those that it names; `CloseCode` of close-codes.ts has all.
 */

export const normal = 1000
export const goingAway = 1001
export const protocolError = 1002
export const unsupportedData = 1003
export const noStatus = 1005
export const abnormal = 1006
export const invalidPayload = 1007
export const policy = 1008
export const tooBig = 1009
export const internalError = 1011
export const serviceRestart = 1012
export const tryAgainLater = 1013
/** The upstream's connection broke. */
export const badGateway = 1014
export const slowConsumer = 4008
/** The client sends more than it may, and went on when it was held back. */
export const tooFast = 4029
/** The client's token is not taken, or not any more: it is to come back with another one. */
export const unauthorized = 4401
/** The client may not do that. */
export const forbidden = 4403
/** A frame that `evenkeel.v1` does not allow. */
export const protocolViolation = 4100
/** The session goes on over another connection. */
export const resumedElsewhere = 4101
