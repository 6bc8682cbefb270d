/** What ledger clients and ledger nodes say to each other: JSON, as text or as bytes. */

/** A client's message. It says how it wants to be handled, so that handling it again does the same. */
export interface Ask {
  /** Number of the message in its session, from 1. */
  n: number
  /** How long the handler takes; 0 is a synchronous handler. */
  ms: number
  /** Outputs before the echo, half of them before the wait. */
  pushes: number
  /** Comes back with the echo. */
  pad: string
  /** The handler never settles, unless the message was redelivered. */
  hang?: boolean
  /** The handler does not wait for a client that reads slowly. */
  hasty?: boolean
  /** The node closes the session after the echo, with `byeCode`. */
  bye?: boolean
}

export const byeCode = 4000

/** What the node keeps in `session.state`. */
export interface LedgerState {
  [key: string]: number
  /** Messages handled. */
  count: number
  /** Of their numbers. */
  sum: number
  /** Outputs made. */
  out: number
  /** Times that the `open` and `close` hooks have run, at nodes that count them. */
  opens: number
  closes: number
}

/**
 * A node's output. `count` and `sum` are those of the state that message `n` brings about. Outside of message handlers `n` is
 * the last message that was handled.
 */
export interface Output {
  /** Number of the output in its session, from 1. */
  o: number
  /** The message that made it. */
  n: number
  /** The echo is the last output of a message. */
  kind: 'push' | 'echo'
  count: number
  sum: number
  /** Not 0: a hook has run too often or not at all, or what it made of the state is lost. */
  unpaired: number
  node: string
  session: string
  term: number
  redelivered: boolean
  pad: string
}

/** Different for each client and message, so that one session's bytes in another one are seen. */
export function padOf(client: string, n: number, bytes: number): string {
  const unit = `${client}/${n};`
  return unit.repeat(Math.ceil(bytes / unit.length)).slice(0, bytes)
}

/** One line of a node's ledger: a handler begins or is done. */
export interface Handling {
  node: string
  session: string
  term: number
  n: number
  redelivered: boolean
  event: 'begin' | 'done'
  /** Microseconds of the machine's monotonic clock, which all processes share. */
  at: number
}

export function formatHandling({ session, term, n, redelivered, event, at }: Omit<Handling, 'node'>): string {
  return `${event} ${session} ${term} ${n} ${redelivered ? 1 : 0} ${at}\n`
}

export function parseHandlings(node: string, text: string): Handling[] {
  // A node that was killed may have left half a line.
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n')
  return lines.filter(Boolean).map((line) => {
    const [event, session, term, n, redelivered, at] = line.split(' ')
    return {
      node,
      session: session!,
      term: Number(term),
      n: Number(n),
      redelivered: redelivered === '1',
      event: event as Handling['event'],
      at: Number(at),
    }
  })
}
