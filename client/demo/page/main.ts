import { connect, type DisconnectEvent, type SessionEvent } from '../../index.ts'
import type { NodeWord } from '../words.ts'
import { Chat } from './chat.ts'
import { wireControls } from './controls.ts'
import { Conversation } from './conversation.ts'
import { element } from './dom.ts'
import { EventList } from './events.ts'
import { Network } from './network.ts'

const network = new Network()
const events = new EventList()
const { protocol, host } = location
const client = connect(`${protocol === 'https:' ? 'wss' : 'ws'}://${host}/ws`, {
  WebSocket: network.WebSocket,
})

const state = element('state', HTMLElement)
const nodeName = element('session-node', HTMLElement)
let sessionNode: string | null = null

function showState(): void {
  state.dataset.state = client.state
  state.textContent = { open: 'connected', connecting: 'connecting', waiting: 'waiting', closed: 'closed' }[
    client.state
  ]
}

const losses: Record<DisconnectEvent['kind'], string> = {
  lost: 'The connection is lost',
  moved: 'The gateway sends its clients elsewhere',
  stopping: 'The gateway stops',
  'no-node': 'There is no node',
  failed: 'A handler has failed',
  slow: 'This page was too slow',
  asleep: 'The page was put away',
  ended: 'The node has ended the session',
}

function welcomed({ recovered, reason }: SessionEvent): void {
  showState()
  if (recovered === null) events.add('Connected')
  else if (recovered) events.add('Back: the same session, nothing missing', 'good')
  else events.add(`A new session: the earlier one is gone (${reason})`, 'bad')
}

function here(node: string): void {
  if (sessionNode !== null && sessionNode !== node) events.add(`The session goes on at ${node}`, 'good')
  sessionNode = node
  nodeName.textContent = node
}

let lossShown = false
client.on('session', (event) => {
  lossShown = false
  welcomed(event)
})
client.on('disconnect', ({ kind }) => {
  showState()
  if (!lossShown) events.add(losses[kind])
  lossShown = true
})
client.on('close', ({ reason }) => {
  showState()
  events.add(`Closed for good: ${reason}`, 'bad')
})

const conversation = new Conversation(client, events)
const chat = new Chat(client, events)
client.on('message', (data) => {
  const word = JSON.parse(String(data)) as NodeWord
  if (word.is === 'here') here(word.node)
  else chat.hear(word)
})
wireControls({ client, conversation, events, network, sessionNode: () => sessionNode })
setInterval(showState, 500)
// A page that will not come back needs no session: the others in the room see at once that it has gone.
addEventListener('pagehide', ({ persisted }) => {
  if (!persisted) client.close()
})
