/** The first byte of a frame about runs, or the code of its first character (PROTOCOL.md §2.2). */

/** d: the client wants no more of this stream. */
export const detach = 0x64
/** e: what happened in the run. */
export const events = 0x65
/** f: why a stream has ended otherwise than with the run. */
export const failure = 0x66
/** k: that many bytes more may be sent. */
export const credit = 0x6b
/** s */
export const start = 0x73
/** t */
export const attach = 0x74
/** x: end the run. */
export const cancel = 0x78
