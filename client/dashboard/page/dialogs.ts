import type { Api } from './api.ts'
import { byId, el, replace } from './dom.ts'
import { count, percent } from './format.ts'
import { say } from './notices.ts'
import type { NodeView, Operation, Plan } from './views.ts'

interface Question {
  title: string
  /** What will happen, and the fields that it needs. */
  content: Node[]
  confirm: string
  dangerous?: boolean
  /** What was done, in a sentence. */
  act(data: FormData): Promise<string>
}

/** Asks before anything is done; Escape and Cancel do nothing. */
function ask({ title, content, confirm, dangerous = false, act }: Question): void {
  const dialog = byId<HTMLDialogElement>('dialog')
  const problem = el('p', { class: 'problem', role: 'alert' })
  const button = el('button', { type: 'submit', class: dangerous ? 'danger' : 'primary' }, confirm)
  const form = el(
    'form',
    { method: 'dialog' },
    el('h2', { id: 'dialog-title' }, title),
    ...content,
    problem,
    el(
      'p',
      { class: 'choices' },
      el('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'),
      button,
    ),
  )
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    button.disabled = true
    replace(problem)
    try {
      const done = await act(new FormData(form))
      dialog.close()
      say(done)
    } catch (error) {
      replace(problem, error instanceof Error ? error.message : String(error))
    } finally {
      button.disabled = false
    }
  })
  replace(dialog, form)
  dialog.showModal()
  form.querySelector<HTMLElement>('input, select')?.focus()
}

function field(label: string, input: HTMLElement, hint = ''): HTMLElement {
  return el('label', { class: 'field' }, el('span', {}, label), input, el('small', {}, hint))
}

/** What operators do, each behind a question. */
export class Dialogs {
  private readonly api: Api
  /** Called with what was begun. */
  private readonly began: (operation: Operation | null) => void

  constructor(api: Api, began: (operation: Operation | null) => void) {
    this.api = api
    this.began = began
  }

  drain(node: NodeView): void {
    ask({
      title: `Drain ${node.id}?`,
      content: [
        el(
          'p',
          {},
          `Its ${count(node.sessions)} sessions move to the other nodes of pool ${node.pool}, and it gets no new ones. Clients stay connected.`,
        ),
        field(
          'Moves per second',
          el('input', {
            name: 'rate',
            type: 'number',
            min: 0,
            max: 1_000_000,
            placeholder: 'the budget of the gateways',
          }),
          '0: as fast as it goes',
        ),
        field(
          'Deadline in seconds',
          el('input', {
            name: 'deadline',
            type: 'number',
            min: 1,
            max: 86_400,
            placeholder: 'that of the configuration',
          }),
          'after it the rest is moved by force',
        ),
      ],
      confirm: 'Drain',
      dangerous: true,
      act: async (data) => {
        const rate = String(data.get('rate'))
        const deadline = String(data.get('deadline'))
        const operation = await this.api.drain(node.id, {
          ...(rate === '' ? {} : { ratePerSecond: Number(rate) }),
          ...(deadline === '' ? {} : { deadlineMs: Number(deadline) * 1_000 }),
        })
        this.began(operation)
        return `${node.id} is draining.`
      },
    })
  }

  activate(node: NodeView): void {
    ask({
      title: `Activate ${node.id}?`,
      content: [el('p', {}, 'It takes sessions again, new ones and its share of those that are there.')],
      confirm: 'Activate',
      act: async () => {
        await this.api.activate(node.id)
        this.began(null)
        return `${node.id} is active.`
      },
    })
  }

  weigh(node: NodeView): void {
    const input = el('input', {
      name: 'weight',
      type: 'number',
      min: 0.01,
      max: 1_000_000,
      step: 'any',
      required: true,
      value: node.weight,
    })
    ask({
      title: `Weight of ${node.id}`,
      content: [
        el(
          'p',
          {},
          `A node of weight 2 gets twice the sessions of one of weight 1. Fair share now: ${percent(node.fairShare)}.`,
        ),
        field('Weight', input),
      ],
      confirm: 'Change',
      act: async (data) => {
        const weight = Number(data.get('weight'))
        await this.api.setWeight(node.id, weight)
        this.began(null)
        return `${node.id} has weight ${weight}.`
      },
    })
  }

  /** The plan is shown before anything moves. */
  async rebalance(): Promise<void> {
    let plans: Plan[]
    try {
      plans = await this.api.rebalance(true)
    } catch (error) {
      say(error instanceof Error ? error.message : String(error))
      return
    }
    const total = plans.reduce((sum, plan) => sum + plan.total, 0)
    const content = plans.flatMap(planText)
    if (total === 0) {
      ask({
        title: 'Nothing to move',
        content: content.length === 0 ? [el('p', {}, 'There is no pool yet.')] : content,
        confirm: 'Close',
        act: async () => 'Every node is within tolerance of its fair share.',
      })
      return
    }
    ask({
      title: `Move ${count(total)} ${total === 1 ? 'session' : 'sessions'}?`,
      content,
      confirm: 'Rebalance',
      act: async () => {
        const done = await this.api.rebalance(false)
        for (const { operation } of done) this.began(operation)
        return `${count(done.reduce((sum, plan) => sum + plan.total, 0))} sessions are moving.`
      },
    })
  }

  migrate(session: string, from: string | null, nodes: readonly NodeView[]): void {
    const options = nodes
      .filter(({ id, state }) => id !== from && state === 'active')
      .map(({ id, sessions }) => el('option', { value: id }, `${id} (${count(sessions)})`))
    ask({
      title: 'Move this session?',
      content: [
        el('p', {}, `It is at ${from ?? 'no node'}. Its client stays connected and notices nothing.`),
        field('To', el('select', { name: 'to', required: true }, ...options)),
      ],
      confirm: 'Move',
      act: async (data) => {
        const to = String(data.get('to'))
        this.began(await this.api.migrate(session, to))
        return `The session moves to ${to}.`
      },
    })
  }

  closeSession(session: string): void {
    ask({
      title: 'Close this session?',
      content: [el('p', {}, 'Its client is disconnected (code 1000), and its state is gone.')],
      confirm: 'Close it',
      dangerous: true,
      act: async () => {
        await this.api.closeSession(session)
        this.began(null)
        return 'The session is closed.'
      },
    })
  }

  drainGateway(gateway: string): void {
    ask({
      title: `Drain gateway ${gateway}?`,
      content: [
        el(
          'p',
          {},
          'It takes no new clients, and asks those that it has to go to other gateways, spread over some seconds. There is no way back: its process has to be started anew.',
        ),
      ],
      confirm: 'Drain',
      dangerous: true,
      act: async () => {
        this.began(await this.api.drainGateway(gateway))
        return `${gateway} is draining.`
      },
    })
  }
}

const movesShown = 12

function planText({ pool, moves, total, imbalanceBefore, imbalanceAfter }: Plan): Node[] {
  const rows = moves
    .slice(0, movesShown)
    .map(({ from, to, count: sessions }) =>
      el('tr', {}, el('td', {}, from), el('td', {}, to), el('td', { class: 'number' }, count(sessions))),
    )
  const rest = moves.length - movesShown
  return [
    el(
      'p',
      {},
      `Pool ${pool}: ${count(total)} moves; imbalance ${percent(imbalanceBefore)} now, ${percent(imbalanceAfter)} after.`,
    ),
    ...(rows.length === 0
      ? []
      : [
          el(
            'table',
            { class: 'plan' },
            el(
              'thead',
              {},
              el(
                'tr',
                {},
                el('th', {}, 'from'),
                el('th', {}, 'to'),
                el('th', { class: 'number' }, 'sessions'),
              ),
            ),
            el('tbody', {}, ...rows),
          ),
        ]),
    ...(rest > 0 ? [el('p', {}, `and ${rest} more pairs of nodes`)] : []),
  ]
}
