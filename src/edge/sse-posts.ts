import type { IncomingMessage } from 'node:http'
import type { Gateway } from '../gateway/gateway.ts'
import type { ResumableSession } from '../gateway/resumable-session.ts'
import type { CommitOutcome } from '../gateway/session.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { idempotencyKeyBytes } from '../protocol/link-records.ts'

/** Bodies of one session that are being read at once. */
const readsMax = 16

/** Messages of SSE clients: a request for each. */
export class SsePosts {
  private readonly gateway: Gateway
  private readonly reads = new Map<ResumableSession, number>()

  constructor(gateway: Gateway) {
    this.gateway = gateway
  }

  /** Resolves when the message is committed. Throws what the client is to be answered. */
  async take(request: IncomingMessage, session: ResumableSession): Promise<void> {
    const key = keyOf(request)
    let body: Buffer = Buffer.alloc(0)
    if (key !== null && session.knows(key)) request.resume()
    else body = await this.read(request, session)
    const outcome = await new Promise<CommitOutcome>((done) => session.post(body, isText(request), key, done))
    if (outcome === 'committed') return
    if (outcome === 'elsewhere' || this.gateway.isElsewhere(session.id)) throw elsewhere()
    throw new EvenkeelError('GONE', 'the session ended before the message was committed')
  }

  private async read(request: IncomingMessage, session: ResumableSession): Promise<Buffer> {
    const reads = this.reads.get(session) ?? 0
    if (session.inboxIsFull || reads >= readsMax) throw tooMany()
    this.reads.set(session, reads + 1)
    try {
      const body = await readBody(request, this.gateway.limits.messageBytes)
      if (session.inboxIsFull) throw tooMany()
      return body
    } finally {
      const left = this.reads.get(session)! - 1
      if (left === 0) this.reads.delete(session)
      else this.reads.set(session, left)
    }
  }
}

export function elsewhere(): EvenkeelError {
  return new EvenkeelError(
    'NOT_READY',
    'the session goes on at another gateway; repeat the request, with the same Idempotency-Key and the token of the last session event',
  )
}

/** Throws BAD_REQUEST. */
function keyOf({ headers }: IncomingMessage): string | null {
  const key = headers['idempotency-key']
  if (key === undefined || key === '') return null
  if (typeof key === 'string' && Buffer.byteLength(key) <= idempotencyKeyBytes) return key
  throw new EvenkeelError('BAD_REQUEST', `Idempotency-Key has at most ${idempotencyKeyBytes} bytes`)
}

function isText({ headers }: IncomingMessage): boolean {
  const type = headers['content-type'] ?? ''
  return type === '' || type.startsWith('text/') || type.startsWith('application/json')
}

function tooMany(): EvenkeelError {
  return new EvenkeelError(
    'TOO_MANY_REQUESTS',
    'too many messages of this session wait for its node; try again later',
  )
}

async function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new EvenkeelError('TOO_LARGE', `a message has at most ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
