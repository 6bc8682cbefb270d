/** The plain `ws` application that answers ledger clients; takes the arguments of `ledger-node.ts`. */
import { appendFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { attachWebSocketServer, type SessionRequest } from 'evenkeel/ws'
import { type WebSocket, WebSocketServer } from 'ws'
import { type Ask, byeCode, formatHandling, type Handling, type Output } from './ledger-message.ts'

const { values } = parseArgs({
  options: {
    id: { type: 'string' },
    weight: { type: 'string', default: '1' },
    gateway: { type: 'string' },
    ledger: { type: 'string' },
    /** Of no meaning here. */
    delivery: { type: 'string' },
    /** Saves its state with every message, so that it survives a SIGKILL; else only when the session moves. */
    chatty: { type: 'string', default: 'false' },
  },
})

interface State {
  [key: string]: number
  count: number
  sum: number
  out: number
}

const savesAlways = values.chatty === 'true'
const wss = new WebSocketServer({ noServer: true })
let unwritten = ''

wss.on('connection', (ws: WebSocket, request) => {
  const { session } = request as SessionRequest
  let state = (session.state as State | undefined) ?? { count: 0, sum: 0, out: 0 }
  session.onExport(() => state)

  const speak = (about: Partial<Output> & Pick<Output, 'kind'>, binary: boolean) => {
    const o = state.out + 1
    state = { ...state, out: o }
    const output: Output = {
      o,
      n: 0,
      count: state.count,
      sum: state.sum,
      unpaired: 0,
      node: values.id!,
      session: session.id,
      term: 0,
      redelivered: false,
      pad: '',
      ...about,
    }
    const text = JSON.stringify(output)
    ws.send(binary ? Buffer.from(text) : text)
  }

  ws.on('message', (data, binary) => {
    const { n, ms, pushes, pad, bye } = JSON.parse(String(data)) as Ask
    const { redelivered } = session
    note(session.id, n, redelivered, 'begin')
    const about = { n, count: state.count + 1, sum: state.sum + n, redelivered }
    const finish = () => {
      for (let i = 0; i < pushes; i++) speak({ kind: 'push', ...about }, binary)
      speak({ kind: 'echo', pad, ...about }, binary)
      state = { ...state, count: about.count, sum: about.sum }
      if (savesAlways) session.state = state
      note(session.id, n, redelivered, 'done')
      if (bye === true) ws.close(byeCode, 'bye')
    }
    return ms === 0 ? finish() : sleep(ms).then(finish)
  })
})

function writeLedger(): void {
  if (unwritten !== '') appendFileSync(values.ledger!, unwritten)
  unwritten = ''
}

function note(session: string, n: number, redelivered: boolean, event: Handling['event']): void {
  if (unwritten === '') queueMicrotask(writeLedger)
  const at = Number(process.hrtime.bigint() / 1000n)
  unwritten += formatHandling({ session, term: 0, n, redelivered, event, at })
}

await attachWebSocketServer(wss, {
  id: values.id!,
  weight: Number(values.weight),
  gateways: [values.gateway!],
  sequential: true,
})
process.send?.('ready')
