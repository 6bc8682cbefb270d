/** For what is still to be written to a connection that ends. */
const lastWordsMs = 5_000

/** The connection has been told its last: whoever does not take that, or does not hang up, is cut. */
export function cutSoon(socket: { destroy(): unknown } | null): void {
  if (socket !== null) setTimeout(() => socket.destroy(), lastWordsMs).unref()
}
