/**
 * The first byte of a frame of `evenkeel.v1`, or the code of its first character (PROTOCOL.md §2.1). Each by itself, so that the client library carries
 * only those that it names; `ClientFrame` of client-frames.ts has all.
 */

/** a: from the client, outputs that it has handled; from the gateway, messages that are committed. */
export const count = 0x61
/** b: the client publishes to a channel by itself. */
export const publish = 0x62
/** c */
export const channel = 0x63
/** h */
export const hello = 0x68
/** i: the client joins a channel by itself. */
export const join = 0x69
/** j: from the gateway, show another token; from the client, this one. */
export const token = 0x6a
/** l: an output of a node that the session has left; not numbered. */
export const late = 0x6c
/** m: a message of the client, or an output of its session's node. */
export const message = 0x6d
/** o: the client leaves a channel by itself. */
export const leave = 0x6f
/** p: from the client, is anybody there? From the gateway, the same frame, yes. */
export const ping = 0x70
/** r: resume now, by another connection. */
export const resume = 0x72
/** v */
export const verdict = 0x76
/** w */
export const welcome = 0x77
