import type { StatsSample } from '../../admin/stats.ts'
import type { GatewayView, NodeView, Operation, RebalanceResult } from '../../gateway/operator.ts'
import { type ApiClient, segment } from '../api-client.ts'
import { CommandFailed } from '../errors.ts'
import { eventLine, readEvents } from '../event-reader.ts'
import { percent } from '../output.ts'
import { readKeys } from '../terminal/keys.ts'
import { openScreen } from '../terminal/screen.ts'
import { frame, type TopView } from './frame.ts'
import { firstState, press, type TopAction, type TopState } from './state.ts'

const eventsKept = 50
/** Of the samples that a gateway has, only those of the last seconds are of interest here. */
const statsMs = 5_000

/** All that is shown, of this moment. Throws CommandFailed. */
export async function look(api: ApiClient): Promise<Omit<TopView, 'url' | 'events' | 'message'>> {
  const [gateways, nodes, operations] = await Promise.all([
    api.call<GatewayView[]>('GET', '/gateways'),
    api.call<NodeView[]>('GET', '/nodes'),
    api.call<Operation[]>('GET', '/operations'),
  ])
  const now = Date.now()
  const latest = await Promise.all(
    gateways.map(async ({ id }): Promise<[string, StatsSample][]> => {
      const path = `/gateways/${segment(id)}/stats?since=${now - statsMs}`
      // One that does not answer is shown as such.
      const samples = await api.call<StatsSample[]>('GET', path).catch(() => [])
      const newest = samples.at(-1)
      return newest === undefined ? [] : [[id, newest]]
    }),
  )
  return { now, gateways, nodes, operations, stats: Object.fromEntries(latest.flat()) }
}

/** The live view, until it is left. Rejects with CommandFailed when the gateway is not there to begin with. */
export class Top {
  private readonly api: ApiClient
  private readonly everyMs: number
  private state: TopState = firstState
  private view: TopView
  private readonly left = Promise.withResolvers<void>()
  private readonly stop = new AbortController()

  private constructor(api: ApiClient, url: URL, everyMs: number, first: Awaited<ReturnType<typeof look>>) {
    this.api = api
    this.everyMs = everyMs
    this.view = { ...first, url: url.origin, events: [], message: '' }
  }

  static async run(api: ApiClient, url: URL, everyMs: number): Promise<void> {
    await new Top(api, url, everyMs, await look(api)).run()
  }

  private async run(): Promise<void> {
    const screen = openScreen(process.stdout)
    const draw = () => screen.draw(frame(this.view, this.state, screen))
    const changed = (change: Partial<TopView>) => {
      this.view = { ...this.view, ...change }
      draw()
    }
    screen.onResize(draw)
    const leave = () => this.left.resolve()
    process.once('SIGTERM', leave)
    process.once('SIGINT', leave)
    const stopKeys = process.stdin.isTTY
      ? readKeys((key) => {
          const { state, action } = press(this.state, key, this.view.nodes)
          this.state = state
          draw()
          if (action !== null) void this.act(action).then((message) => changed({ message }))
        })
      : () => {}
    const poll = () =>
      look(this.api).then(changed, (error: unknown) => changed({ message: messageOf(error) }))
    const timer = setInterval(poll, this.everyMs)
    void this.follow((line) => changed({ events: [...this.view.events, line].slice(-eventsKept) }))
    draw()
    await this.left.promise
    clearInterval(timer)
    this.stop.abort()
    stopKeys()
    screen.close([])
  }

  /** What was done, or why it was not. */
  private async act(action: TopAction): Promise<string> {
    const { api } = this
    try {
      switch (action.do) {
        case 'quit':
          this.left.resolve()
          return ''
        case 'drain':
          await api.call('POST', `/nodes/${segment(action.node)}/drain`, {})
          return `${action.node} is draining.`
        case 'activate':
          await api.call('POST', `/nodes/${segment(action.node)}/activate`, {})
          return `${action.node} is active.`
        case 'weight':
          await api.call('PATCH', `/nodes/${segment(action.node)}`, { weight: action.weight })
          return `${action.node} has weight ${action.weight}.`
        case 'plan':
          return this.askFor(await rebalance(api, true))
        case 'rebalance': {
          const plans = await rebalance(api, false)
          return `${totalOf(plans)} sessions are moving.`
        }
      }
    } catch (error) {
      return messageOf(error)
    }
  }

  /** The plan as a question. */
  private askFor(plans: readonly RebalanceResult[]): string {
    const total = totalOf(plans)
    if (total === 0) return 'Nothing to move: every node is within tolerance of its fair share.'
    const before = Math.max(...plans.map(({ imbalanceBefore }) => imbalanceBefore))
    const after = Math.max(...plans.map(({ imbalanceAfter }) => imbalanceAfter))
    const text = `Move ${total} sessions? Imbalance ${percent(before)} now, ${percent(after)} after.`
    this.state = { ...this.state, prompt: { type: 'confirm', text, action: { do: 'rebalance' } } }
    return ''
  }

  private async follow(onLine: (line: string) => void): Promise<void> {
    const plain = (_colour: unknown, text: string) => text
    try {
      const { body } = await this.api.fetch('api/v1/events', { signal: this.stop.signal })
      if (body === null) return
      await readEvents(body, (event) => {
        // A drain has thousands.
        if (event.type !== 'migration' || event.outcome !== 'moved') onLine(eventLine(event, plain))
      })
    } catch {
      // The figures say that the gateway is away.
    }
  }
}

async function rebalance(api: ApiClient, dryRun: boolean): Promise<RebalanceResult[]> {
  const answer = await api.call<RebalanceResult | { plans: RebalanceResult[] }>('POST', '/rebalance', {
    dryRun,
  })
  return 'plans' in answer ? answer.plans : [answer]
}

function totalOf(plans: readonly RebalanceResult[]): number {
  return plans.reduce((sum, { total }) => sum + total, 0)
}

function messageOf(error: unknown): string {
  if (error instanceof CommandFailed) return error.message
  throw error
}
