import type { EvenkeelClient } from '../../index.ts'
import type { DemoAction, DemoAnswer } from '../words.ts'
import type { Conversation } from './conversation.ts'
import { element } from './dom.ts'
import type { EventList } from './events.ts'
import type { Network } from './network.ts'

export interface Controlled {
  readonly client: EvenkeelClient
  readonly conversation: Conversation
  readonly events: EventList
  readonly network: Network
  /** The node that has the session; null: not known yet. */
  sessionNode(): string | null
}

/** The buttons that break things. */
export function wireControls({ client, conversation, events, network, sessionNode }: Controlled): void {
  const button = (id: string) => element(id, HTMLButtonElement)
  const offline = button('offline')

  button('reload').addEventListener('click', () => location.reload())

  offline.addEventListener('click', () => {
    network.setOffline(!network.isOffline)
    offline.setAttribute('aria-pressed', String(network.isOffline))
    offline.textContent = network.isOffline ? 'Go online' : 'Go offline'
    events.add(network.isOffline ? 'Offline: the answer is made all the same' : 'Online again')
  })

  const ask = async (action: DemoAction | null, otherwise: string): Promise<DemoAnswer | null> => {
    if (action === null) {
      events.add(otherwise)
      return null
    }
    try {
      const response = await fetch('/demo/do', { method: 'POST', body: JSON.stringify(action) })
      const answer = await response.json()
      if (!response.ok) throw new Error(answer.detail)
      if (answer.text !== '') events.add(answer.text, 'bad')
      return answer
    } catch (error) {
      events.add(`That did not work: ${(error as Error).message}`, 'bad')
      return null
    }
  }

  button('kill-node').addEventListener('click', () => {
    const node = conversation.producer ?? sessionNode()
    void ask(node === null ? null : { do: 'kill-node', node }, 'No node is known yet')
  })
  for (const what of ['migrate', 'kill-gateway'] as const) {
    button(what).addEventListener('click', () => {
      const { session } = client
      void ask(session === null ? null : { do: what, session }, 'There is no session yet')
    })
  }
  void ask({ do: 'look' }, '').then((answer) => {
    button('kill-gateway').hidden = answer?.cluster !== true
  })
}
