import { RawConnection } from '../wire.ts'

/** Who waits longer for an answer has been given half an input, and goes on with the next one. */
const silenceMs = 250

/** Does `work` until it has taken `count` inputs, a few at a time. It resolves with how many it took. */
export async function inLanes(
  lanes: number,
  count: number,
  work: (lane: number) => Promise<number>,
): Promise<number> {
  let taken = 0
  await Promise.all(
    Array.from({ length: lanes }, async (_, lane) => {
      while (taken < count) {
        const more = await work(lane)
        taken += more
      }
    }),
  )
  return taken
}

/** Requests of which several are sent at once, over one connection for as long as the gateway keeps it. */
export class HttpLane {
  private readonly port: number
  private connection: RawConnection | null = null

  constructor(port: number) {
    this.port = port
  }

  /** How many were answered. */
  async send(requests: readonly Buffer[]): Promise<number> {
    if (this.connection === null || this.connection.ended) this.connection = new RawConnection(this.port)
    const { connection } = this
    connection.received = Buffer.alloc(0)
    connection.write(Buffer.concat(requests))
    let answers = 0
    await connection
      .until(() => {
        answers = count(connection.received, status)
        return answers >= requests.length
      }, silenceMs)
      .catch(() => {})
    const isClear =
      answers === requests.length &&
      !/^connection: close|event-stream/im.test(connection.received.toString('latin1'))
    if (!isClear) this.drop()
    return answers
  }

  drop(): void {
    this.connection?.drop()
    this.connection = null
  }
}

const status = Buffer.from('HTTP/1.1 ')

function count(bytes: Buffer, what: Buffer): number {
  let found = 0
  for (let at = bytes.indexOf(what); at !== -1; at = bytes.indexOf(what, at + what.length)) found++
  return found
}
