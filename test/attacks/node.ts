/** The node behind the gateway that is attacked: the numbered application for numbers, a few commands, and an echo of all else. */
import { parseArgs } from 'node:util'
import { createNode, type Session } from 'evenkeel/sdk'
import { EvenkeelError } from '../../src/protocol/errors.ts'
import { answer, type NumberedState } from '../support/numbered.ts'

const { values } = parseArgs({
  options: { id: { type: 'string' }, gateway: { type: 'string' }, token: { type: 'string' } },
})

const id = values.id ?? 'echo'
const token = values.token ?? process.env.EVENKEEL_NODE_TOKEN
const node = createNode({
  id,
  gateways: [values.gateway!],
  drainOnSigterm: false,
  ...(token === undefined ? {} : { token }),
})
const floodPiece = new Uint8Array(16 * 1024)

node.serve<NumberedState>({
  async message(session, data, { redelivered }) {
    const text = typeof data === 'string' ? data : ''
    const [word, argument = ''] = text.split(' ')
    if (/^\d{1,9}$/.test(text)) {
      const { state, reply } = answer(id, session.term, redelivered, session.state, text)
      session.send(reply)
      session.state = state
    } else if (word === 'meta') session.send(JSON.stringify(session.meta))
    else if (word === 'join') join(session, argument)
    else if (word === 'explode') explode(session)
    else if (word === 'flood') await flood(session, Number(argument))
    else session.send(data)
  },
})

function join(session: Session, name: string): void {
  try {
    session.join(name)
    session.send(`joined ${name}`)
  } catch (error) {
    session.send(error instanceof EvenkeelError ? error.code : 'failed')
  }
}

/** Joins one channel more than is allowed, then says something in the last one and in the one before. */
function explode(session: Session): void {
  const names = Array.from({ length: 129 }, (_, i) => `${session.id}.${i}`)
  for (const name of names) session.join(name)
  node.publish(names[128]!, 'in the 129th')
  node.publish(names[127]!, 'in the 128th')
}

async function flood(session: Session, bytes: number): Promise<void> {
  for (let sent = 0; sent < bytes && session.open; sent += floodPiece.length)
    if (!session.send(floodPiece)) await session.drained()
}

await node.start()
process.send?.({ ready: true })
process.on('disconnect', () => process.exit(0))
