import type { EvenkeelClient } from '../../index.ts'
import { Presence } from '../../presence.ts'
import { type ChatLine, channelOf, type NodeWord, type PageWord, rooms } from '../words.ts'
import { create, element, keepingEnd, recall, remember } from './dom.ts'
import type { EventList } from './events.ts'

const store = 'evenkeel.demo.chat'
const guests = ['Skipper', 'Bosun', 'Pilot', 'Lookout', 'Mate', 'Helmsman', 'Purser', 'Rigger']

/** Chat rooms: a channel each. */
export class Chat {
  readonly #client: EvenkeelClient
  readonly #events: EventList
  readonly #room = element('room', HTMLSelectElement)
  readonly #name = element('name', HTMLInputElement)
  readonly #lines = element('lines', HTMLOListElement)
  readonly #known = new Map<string, HTMLLIElement>()
  #joined: string | null = null
  #presence: Presence | null = null

  constructor(client: EvenkeelClient, events: EventList) {
    this.#client = client
    this.#events = events
    const { room, name } = recall(store, { room: rooms[0] as string, name: guest() })
    for (const one of rooms) this.#room.append(create('option', one))
    this.#room.value = room
    this.#name.value = name
    for (const field of [this.#room, this.#name]) field.addEventListener('change', () => this.#enter())
    element('who', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault()
      this.#enter()
    })
    const text = element('text', HTMLInputElement)
    element('say', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault()
      this.#say(text.value.trim())
      text.value = ''
    })
    client.on('channel', ({ channel, data }) => {
      if (channel === channelOf(this.#room.value)) this.#show(JSON.parse(String(data)))
    })
    // The node knows what was said lately.
    client.on('verdict', ({ channel, verdict }) => {
      if (verdict === 'gap' && channel === channelOf(this.#room.value)) this.#enter()
    })
    // A new session is in no room yet.
    client.on('session', ({ recovered }) => {
      if (recovered === true) return
      this.#joined = null
      this.#enter()
    })
  }

  /** What the session's node says of a room. */
  hear(word: NodeWord & { is: 'room' }): void {
    if (word.room !== this.#room.value) return
    for (const line of word.lines) this.#show(line)
  }

  #enter(): void {
    const room = this.#room.value
    this.#name.value = this.#name.value.trim() || guest()
    remember(store, { room, name: this.#name.value })
    if (this.#joined !== room) {
      if (this.#joined !== null) this.#send({ do: 'leave', room: this.#joined })
      this.#joined = room
      this.#lines.replaceChildren()
      this.#known.clear()
      this.#watch(room)
    }
    this.#send({ do: 'join', room, name: this.#name.value })
  }

  #watch(room: string): void {
    this.#presence?.close()
    this.#showMembers([])
    this.#presence = new Presence(this.#client, channelOf(room), {
      changed: (members) =>
        this.#showMembers([...members.values()].map((data) => String((data as { name?: unknown }).name))),
    })
  }

  #showMembers(names: readonly string[]): void {
    const counts: Record<number, string> = { 0: 'Nobody', 1: 'One person' }
    element('member-count', HTMLElement).textContent = counts[names.length] ?? `${names.length} people`
    element('members', HTMLElement).textContent = names.length === 0 ? '' : `: ${names.toSorted().join(', ')}`
  }

  #say(text: string): void {
    if (text === '') return
    const [room, name] = [this.#room.value, this.#name.value]
    const id = crypto.getRandomValues(new Uint32Array(2)).join('-')
    this.#show({ id, name, text, node: '' })
    this.#send({ do: 'say', room, name, text, id })
  }

  #send(word: PageWord): void {
    this.#client.send(JSON.stringify(word)).catch((error: Error) => {
      if (word.do === 'say') this.#events.add(`“${word.text}” was not sent: ${error.message}`, 'bad')
    })
  }

  /** A line of one's own is shown when it is said, and again, with the node that passed it on, when it comes back. */
  #show({ id, name, text, node }: ChatLine): void {
    const known = this.#known.get(id)
    const item = known ?? create('li')
    item.dataset.is = node === '' ? 'waiting' : 'said'
    item.replaceChildren(
      create('b', name),
      ` ${text}`,
      create('small', node === '' ? 'on its way' : `via ${node}`),
    )
    if (known !== undefined) return
    this.#known.set(id, item)
    keepingEnd(this.#lines, () => this.#lines.append(item))
  }
}

function guest(): string {
  const number = crypto.getRandomValues(new Uint32Array(1))[0]!
  return `${guests[number % guests.length]} ${(number % 89) + 10}`
}
