/**
 * A node that answers ledger clients and keeps a ledger of what it handled. The ledger is a file and not a message channel:
 * what was written to it survives a SIGKILL.
 */
import { appendFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createNode, type Delivery, type Session } from 'evenkeel/sdk'
import {
  type Ask,
  byeCode,
  formatHandling,
  type Handling,
  type LedgerState,
  type Output,
} from './ledger-message.ts'

const { values } = parseArgs({
  options: {
    id: { type: 'string' },
    weight: { type: 'string', default: '1' },
    'max-sessions': { type: 'string' },
    version: { type: 'string', default: '' },
    /** Either one gateway, or the Redis that names them all. */
    gateway: { type: 'string' },
    redis: { type: 'string' },
    delivery: { type: 'string', default: 'stream' },
    ledger: { type: 'string' },
    /**
     * Talks outside of message handlers too: in `open`, in `close` and by a timer, with hooks that take a while.
     * Not for nodes that are killed: nobody redelivers what a timer has done.
     */
    chatty: { type: 'string', default: 'false' },
  },
})

const fresh: LedgerState = { count: 0, sum: 0, out: 0, opens: 0, closes: 0 }
const chatty = values.chatty === 'true'
const hookMsMost = 30
const tickMs = 2_000
const timers = new Map<Session, NodeJS.Timeout>()
let unwritten = ''

const node = createNode({
  id: values.id!,
  weight: Number(values.weight),
  version: values.version,
  ...(values.redis === undefined ? { gateways: [values.gateway!] } : { redis: values.redis }),
  delivery: values.delivery as Delivery,
  ...(values['max-sessions'] === undefined ? {} : { maxSessions: Number(values['max-sessions']) }),
})

node.serve<LedgerState>({
  open(session) {
    // Whoever recovers it cannot know whether this was done before; doing it again changes nothing.
    for (const channel of channelsOf(session)) session.join(channel)
    if (!chatty) return
    session.state = { ...stateOf(session), opens: stateOf(session).opens + 1 }
    timers.set(
      session,
      setInterval(() => speak(session, { kind: 'push' }), tickMs),
    )
    return soonSay(session)
  },
  message(session, data, { redelivered }) {
    const ask = JSON.parse(typeof data === 'string' ? data : Buffer.from(data).toString()) as Ask
    return handle(session, ask, redelivered, typeof data !== 'string')
  },
  close(session) {
    clearInterval(timers.get(session))
    timers.delete(session)
    if (!chatty) return
    return soonSay(session, () => {
      session.state = { ...stateOf(session), closes: stateOf(session).closes + 1 }
    })
  },
})

/** What the client names in its query: `?channels=a,b`. */
function channelsOf({ meta }: Session): string[] {
  return (new URLSearchParams(meta.query).get('channels') ?? '').split(',').filter(Boolean)
}

function handle(
  session: Session<LedgerState>,
  ask: Ask,
  redelivered: boolean,
  binary: boolean,
): void | Promise<void> {
  const { n, ms, pushes, hang, hasty, bye, pad } = ask
  note(session, n, redelivered, 'begin')
  const early = Math.ceil(pushes / 2)
  // What this message makes of the state; outputs say so before the state does.
  const count = stateOf(session).count + 1
  const sum = stateOf(session).sum + n
  const about = { n, count, sum, redelivered, binary }
  for (let i = 0; i < early; i++) speak(session, { kind: 'push', ...about })
  if (hang === true && !redelivered) return new Promise(() => {})

  const finish = (): void | Promise<void> => {
    for (let i = early; i < pushes; i++) speak(session, { kind: 'push', ...about })
    const writable = speak(session, { kind: 'echo', pad, ...about })
    session.state = { ...stateOf(session), count, sum }
    note(session, n, redelivered, 'done')
    if (bye === true) session.close(byeCode, 'bye')
    else if (!writable && hasty !== true) return session.drained()
  }
  return ms === 0 ? finish() : sleep(ms).then(finish)
}

function stateOf(session: Session<LedgerState>): LedgerState {
  return session.state ?? fresh
}

/** At once or a little later. */
function soonSay(session: Session<LedgerState>, then = () => {}): void | Promise<void> {
  const ms = Math.floor(Math.random() * hookMsMost)
  const say = () => {
    speak(session, { kind: 'push' })
    then()
  }
  return ms % 2 === 0 ? say() : sleep(ms).then(say)
}

/** Sends the next output of the session. What is not said is as the state has it. */
function speak(
  session: Session<LedgerState>,
  about: Partial<Output> & Pick<Output, 'kind'> & { binary?: boolean },
): boolean {
  const state = stateOf(session)
  const { binary = false, ...said } = about
  const o = state.out + 1
  session.state = { ...state, out: o }
  const output: Output = {
    o,
    n: state.count,
    count: state.count,
    sum: state.sum,
    unpaired: state.opens - state.closes - (chatty ? 1 : 0),
    node: node.id,
    session: session.id,
    term: session.term,
    redelivered: false,
    pad: '',
    ...said,
  }
  const text = JSON.stringify(output)
  return session.send(binary ? Buffer.from(text) : text)
}

function writeLedger(): void {
  if (unwritten !== '') appendFileSync(values.ledger!, unwritten)
  unwritten = ''
}

function note(session: Session, n: number, redelivered: boolean, event: Handling['event']): void {
  if (unwritten === '') queueMicrotask(writeLedger)
  const at = Number(process.hrtime.bigint() / 1000n)
  unwritten += formatHandling({ session: session.id, term: session.term, n, redelivered, event, at })
}

await node.start()
process.send?.('ready')
