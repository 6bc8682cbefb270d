import { create, element } from './dom.ts'

export type Mood = 'plain' | 'good' | 'bad'

const shown = 50

/** The list of what has happened to this page. The newest is the first, and read out. */
export class EventList {
  readonly #list = element('events', HTMLOListElement)

  add(text: string, mood: Mood = 'plain'): void {
    const item = create('li', '', { 'data-is': mood })
    const now = new Date()
    item.append(create('time', now.toLocaleTimeString(), { datetime: now.toISOString() }), text)
    this.#list.prepend(item)
    if (this.#list.children.length > shown) this.#list.lastElementChild!.remove()
  }
}
