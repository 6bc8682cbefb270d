import { type EvenkeelClient, type Run, RunError } from '../../index.ts'
import { tellStory } from '../story.ts'
import { producerKind, type StoryRequest, storyName } from '../words.ts'
import { create, element, keepingEnd, recall, remember } from './dom.ts'
import type { EventList, Mood } from './events.ts'

/** A question, and what has become of its answer. The key finds the run again after a reload. */
interface Turn {
  readonly key: string
  readonly prompt: string
  /** null while it is under way. */
  end: { text: string; verdict: string; mood: Mood } | null
}

const turnsKept = 20
const store = 'evenkeel.demo.turns'

/** Questions and answers that come token by token. */
export class Conversation {
  readonly #client: EvenkeelClient
  readonly #events: EventList
  readonly #list = element('turns', HTMLDivElement)
  readonly #stop = element('stop', HTMLButtonElement)
  readonly #producer = element('producer', HTMLElement)
  readonly #turns: Turn[]
  /** Those under way, the newest last. */
  readonly #runs: Run[] = []
  /** The node that makes the newest run now. */
  producer: string | null = null

  constructor(client: EvenkeelClient, events: EventList) {
    this.#client = client
    this.#events = events
    this.#turns = recall<Turn[]>(store, [])
    for (const turn of this.#turns) this.#show(turn)
    const form = element('ask', HTMLFormElement)
    const prompt = element('prompt', HTMLInputElement)
    form.addEventListener('submit', (event) => {
      event.preventDefault()
      this.#ask(prompt.value.trim())
      prompt.value = ''
    })
    this.#stop.addEventListener('click', () => {
      for (const run of this.#runs) run.cancel()
    })
  }

  #ask(prompt: string): void {
    if (prompt === '') return
    const turn: Turn = {
      key: `demo-${crypto.getRandomValues(new Uint32Array(4)).join('-')}`,
      prompt,
      end: null,
    }
    this.#turns.push(turn)
    if (this.#turns.length > turnsKept) this.#turns.shift()
    this.#save()
    this.#show(turn)
  }

  #show(turn: Turn): void {
    document.getElementById('turns-hint')?.remove()
    const view = new TurnView(this.#list, turn.prompt)
    if (turn.end === null) void this.#follow(turn, view)
    else view.end(turn.end.text, turn.end.verdict, turn.end.mood)
  }

  /** Reads the run to its end: begun now, or by this tab before it was reloaded. */
  async #follow(turn: Turn, view: TurnView): Promise<void> {
    const request: StoryRequest = { prompt: turn.prompt }
    const run = this.#client.run(storyName, request, { key: turn.key })
    this.#running(run, true)
    const producers: string[] = []
    try {
      for await (const event of run) {
        if (event.type === 'delta' && event.kind === producerKind) {
          this.#madeBy(String(event.data), producers)
          view.says(`answered by ${producers.join(', then ')}`)
        } else if (event.type === 'end' && event.reason === 'cancelled') {
          turn.end = { text: run.text, verdict: `stopped after ${run.text.length} characters`, mood: 'plain' }
        }
        view.text(run.text)
      }
      turn.end ??= judge(turn.prompt, run.text, producers)
    } catch (error) {
      // The page goes: the answer is not over, and this tab will ask for it again.
      if (this.#client.state === 'closed') return
      const why = error instanceof RunError ? `${error.code}: ${error.message}` : String(error)
      turn.end = { text: run.text, verdict: why, mood: 'bad' }
    }
    this.#running(run, false)
    this.#events.add(`Answer: ${turn.end.verdict}`, turn.end.mood)
    view.end(turn.end.text, turn.end.verdict, turn.end.mood)
    this.#save()
  }

  #madeBy(node: string, producers: string[]): void {
    if (producers.at(-1) === node) return
    if (producers.length > 0)
      this.#events.add(`${node} goes on with the answer of ${producers.at(-1)}`, 'good')
    producers.push(node)
    this.producer = node
    this.#producer.textContent = node
  }

  #running(run: Run, isRunning: boolean): void {
    if (isRunning) this.#runs.push(run)
    else this.#runs.splice(this.#runs.indexOf(run), 1)
    this.#stop.disabled = this.#runs.length === 0
    if (this.#runs.length === 0) this.producer = null
  }

  #save(): void {
    remember(store, this.#turns)
  }
}

/** The same question has the same answer: so this page knows what it must be. */
function judge(prompt: string, text: string, producers: readonly string[]): NonNullable<Turn['end']> {
  const isRight = text === tellStory(prompt)
  const who = producers.length === 0 ? '' : `, by ${producers.join(', then ')}`
  return isRight
    ? { text, verdict: `✓ complete, ${text.length} characters, byte for byte${who}`, mood: 'good' }
    : { text, verdict: `✗ not what it should be${who}`, mood: 'bad' }
}

class TurnView {
  readonly #list: HTMLElement
  readonly #box = create('article', '', { 'aria-busy': 'true' })
  readonly #answer = create('p', '', { class: 'answer' })
  readonly #verdict = create('p', '', { class: 'verdict' })

  constructor(list: HTMLElement, prompt: string) {
    this.#list = list
    this.#box.setAttribute('aria-label', `Answer to: ${prompt}`)
    this.#box.append(create('p', prompt, { class: 'question' }), this.#answer, this.#verdict)
    list.append(this.#box)
    list.scrollTop = list.scrollHeight
  }

  text(text: string): void {
    keepingEnd(this.#list, () => {
      this.#answer.textContent = text
    })
  }

  says(verdict: string): void {
    this.#verdict.textContent = verdict
  }

  end(text: string, verdict: string, mood: Mood): void {
    keepingEnd(this.#list, () => {
      this.#answer.textContent = text
      this.#verdict.textContent = verdict
    })
    this.#verdict.dataset.is = mood
    this.#box.setAttribute('aria-busy', 'false')
  }
}
