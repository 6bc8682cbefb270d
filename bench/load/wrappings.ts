/** How messages are wrapped: as they are, as Socket.IO events, or as such events that are acknowledged. */
export type Dialect = 'plain' | 'socket.io' | 'socket.io ack'

export interface Wrapping {
  /** Around what a client sends. Its length is a multiple of 4, so that the mask meets the payload as if nothing stood before it. */
  readonly clientBefore: string
  /** Around what it gets. */
  readonly serverBefore: string
  readonly after: string
  /** Where the number of the acknowledgement stands in both; null: there is none. */
  readonly ackAt: number | null
}

export const ackDigits = 6

const placeholder = '0'.repeat(ackDigits)

export const wrappings: Record<Dialect, Wrapping> = {
  plain: { clientBefore: '', serverBefore: '', after: '', ackAt: null },
  'socket.io': { clientBefore: '42["m","', serverBefore: '42["m","', after: '"]', ackAt: null },
  'socket.io ack': {
    clientBefore: `42${placeholder}["msg","`,
    serverBefore: `43${placeholder}["`,
    after: '"]',
    ackAt: 2,
  },
}
