import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createNode, createPresence, type Json, type Session } from 'evenkeel/sdk'
import { storyTokens } from '../../../client/demo/story.ts'
import {
  type ChatLine,
  channelOf,
  type NodeWord,
  type PageWord,
  producerKind,
  rooms,
  type StoryRequest,
  storyName,
} from '../../../client/demo/words.ts'

/** The module of the demo's nodes: echoes for the simulated clients, chat rooms for the page, and stories, token by token. */

/** One token in so many milliseconds. */
const tokenMs = 40
const linesKept = 30
const textMost = 500

const { values } = parseArgs({
  options: {
    id: { type: 'string', default: `demo-${process.pid}` },
    pool: { type: 'string', default: 'default' },
    weight: { type: 'string', default: '1' },
    gateway: { type: 'string', multiple: true },
    redis: { type: 'string' },
    'token-ms': { type: 'string', default: String(tokenMs) },
  },
})

const node = createNode({
  id: values.id,
  pool: values.pool,
  weight: Number(values.weight),
  ...(values.redis ? { redis: values.redis } : { gateways: values.gateway ?? ['ws://127.0.0.1:8081'] }),
  // Nodes get killed here, and clients that resend nothing must see no answer twice.
  delivery: 'atomic',
})
const presence = createPresence(node)

/** What was said lately, as every node hears it. */
const lines = new Map<string, ChatLine[]>(rooms.map((room) => [room, []]))
for (const [room, said] of lines) {
  node.subscribe(channelOf(room), (data) => {
    said.push(JSON.parse(String(data)))
    if (said.length > linesKept) said.shift()
  })
}

/** Of a simulated client: how many messages it has sent. Of the page: where it is, as whom. */
type State = { count: number } | { room: string; name: string }

node.serve<State>({
  open(session) {
    if (!isPage(session)) return
    say(session, { is: 'here', node: node.id })
    const { state } = session
    if (state !== undefined && 'room' in state)
      presence.enter(session, channelOf(state.room), { name: state.name, node: node.id })
  },
  message(session, data) {
    if (isPage(session)) pageSays(session, JSON.parse(String(data)))
    else echo(session, String(data))
  },
  close(session, { cause }) {
    presence.closed(session, cause)
  },
})

/** Behind what a lost node had said already. */
node.run<StoryRequest & Json>(
  storyName,
  async function* ({ prompt }, { emitted, signal }) {
    yield { part: 1, kind: producerKind, data: node.id }
    const tokens = storyTokens(String(prompt))
    let known = emitted.text.length
    for (const token of tokens) {
      const rest = token.slice(known)
      known = Math.max(0, known - token.length)
      if (rest === '') continue
      await delay(Number(values['token-ms']), undefined, { signal })
      yield rest
    }
    return { tokens: tokens.length, node: node.id }
  },
  { onLoss: 'continue' },
)

await node.start()

function isPage({ meta }: Session<State>): boolean {
  return meta.subprotocol === 'evenkeel.v1'
}

function echo(session: Session<State>, data: string): void {
  const { state } = session
  const count = (state !== undefined && 'count' in state ? state.count : 0) + 1
  session.state = { count }
  session.send(JSON.stringify({ node: node.id, count, echo: data }))
}

function pageSays(session: Session<State>, word: PageWord): void {
  const said = lines.get(word.room)
  if (said === undefined) return
  const channel = channelOf(word.room)
  if (word.do === 'join') {
    session.join(channel)
    presence.enter(session, channel, { name: word.name, node: node.id })
    session.state = { room: word.room, name: word.name }
    say(session, { is: 'room', room: word.room, lines: said })
  } else if (word.do === 'leave') {
    session.leave(channel)
    presence.leave(session, channel)
  } else {
    const { id, name, text } = word
    const line: ChatLine = { id, name: name.slice(0, 40), text: text.slice(0, textMost), node: node.id }
    node.publish(channel, JSON.stringify(line))
  }
}

function say(session: Session<State>, word: NodeWord): void {
  session.send(JSON.stringify(word))
}
