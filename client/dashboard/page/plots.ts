import uPlot from 'uplot'
import { byId, el, setText } from './dom.ts'
import { bytes, count, milliseconds, percent } from './format.ts'
import { type Columns, type History, most, nodeLines, shownSeconds, sum } from './history.ts'

interface PlotSpec {
  id: string
  title: string
  names(ids: readonly string[]): string[]
  columns(history: History, ids: readonly string[]): Columns
  format(value: number): string
  /** Where the scale ends when there is less. Default 1. */
  least?: number
}

const many = ['mean', 'most', 'fewest']

const specs: PlotSpec[] = [
  {
    id: 'sessions',
    title: 'Sessions per node',
    names: (ids) => (ids.length <= nodeLines ? [...ids] : many),
    columns: (history, ids) => history.sessions(ids),
    format: count,
  },
  {
    id: 'messages',
    title: 'Messages per second',
    names: () => ['from clients', 'to clients'],
    columns: (history) =>
      history.stats(
        sum(({ messagesIn }) => messagesIn),
        sum(({ messagesOut }) => messagesOut),
      ),
    format: count,
  },
  {
    id: 'pauses',
    title: 'Pause of migrations',
    names: () => ['p50', 'p99'],
    columns: (history) =>
      history.stats(
        most(({ pauseMs }) => pauseMs?.p50 ?? null),
        most(({ pauseMs }) => pauseMs?.p99 ?? null),
      ),
    format: milliseconds,
  },
  {
    id: 'imbalance',
    title: 'Imbalance',
    names: () => ['largest distance from a fair share'],
    columns: (history) => history.stats(most(({ imbalance }) => Math.max(0, ...Object.values(imbalance)))),
    format: percent,
    least: 0.05,
  },
  {
    id: 'lag',
    title: 'Event-loop lag',
    names: () => ['slowest gateway'],
    columns: (history) => history.stats(most(({ lagMs }) => lagMs)),
    format: milliseconds,
  },
  {
    id: 'runs',
    title: 'Token streams',
    names: () => ['made here', 'read here'],
    columns: (history) =>
      history.stats(
        sum(({ runs }) => runs.running),
        sum(({ runs }) => runs.read),
      ),
    format: count,
  },
  {
    id: 'memory',
    title: 'Memory of gateways',
    names: () => ['all'],
    columns: (history) => history.stats(sum(({ memoryBytes }) => memoryBytes)),
    format: bytes,
  },
  {
    id: 'slow',
    title: 'Slow clients',
    names: () => ['closed', 'dropped or coalesced'],
    columns: (history) =>
      history.stats(
        sum(({ slowConsumers }) => slowConsumers.close ?? 0),
        sum(({ slowConsumers }) => (slowConsumers.drop ?? 0) + (slowConsumers.coalesce ?? 0)),
      ),
    format: count,
  },
]

const heightPx = 130

class LivePlot {
  private readonly spec: PlotSpec
  private readonly figure: HTMLElement
  private readonly place = el('div', { class: 'plot' })
  private readonly caption = el('figcaption')
  private readonly latest = el('span', { class: 'latest' })
  private plot: uPlot | null = null
  private key = ''

  constructor(spec: PlotSpec) {
    this.spec = spec
    this.caption.append(el('span', {}, spec.title), this.latest)
    this.figure = el('figure', { id: `plot-${spec.id}` }, this.caption, this.place)
  }

  attach(parent: HTMLElement): void {
    parent.append(this.figure)
  }

  draw(history: History, ids: readonly string[]): void {
    const names = this.spec.names(ids)
    const columns = this.spec.columns(history, ids)
    const key = `${names.join('\n')} ${document.documentElement.dataset.scheme}`
    if (this.plot === null || key !== this.key) this.create(names, key)
    const now = Math.floor(Date.now() / 1_000)
    this.plot!.batch(() => {
      this.plot!.setData(columns as uPlot.AlignedData, false)
      this.plot!.setScale('x', { min: now - shownSeconds, max: now })
    })
    const values = columns.slice(1).map((column) => column.at(-1) ?? null)
    const texts = values.map((value) => (value === null ? '–' : this.spec.format(value)))
    setText(this.latest, texts.slice(0, 3).join(' · '))
    this.figure.setAttribute(
      'aria-label',
      `${this.spec.title}: ${names.map((name, index) => `${name} ${texts[index]}`).join(', ')}`,
    )
  }

  resize(): void {
    const width = this.place.clientWidth
    if (width > 0 && this.plot !== null && this.plot.width !== width)
      this.plot.setSize({ width, height: heightPx })
  }

  private create(names: string[], key: string): void {
    this.plot?.destroy()
    this.key = key
    const style = getComputedStyle(document.documentElement)
    const quiet = style.getPropertyValue('--quiet').trim()
    const line = style.getPropertyValue('--line').trim()
    const colours = style
      .getPropertyValue('--series')
      .split(',')
      .map((one) => one.trim())
    const axis = {
      stroke: quiet,
      grid: { stroke: line, width: 1 },
      ticks: { show: false },
      font: '11px system-ui',
    }
    this.plot = new uPlot(
      {
        padding: [8, 4, 0, 0],
        width: Math.max(100, this.place.clientWidth),
        height: heightPx,
        legend: { show: false },
        cursor: { drag: { x: false, y: false }, points: { size: 5 } },
        scales: {
          x: { time: true },
          y: { range: (_plot, _min, max) => [0, Math.max(max, this.spec.least ?? 1) * 1.1] },
        },
        axes: [
          {
            ...axis,
            values: (_plot, ticks) =>
              ticks.map((at) => new Date(at * 1_000).toLocaleTimeString('en-GB').slice(0, 5)),
            space: 60,
            size: 22,
          },
          { ...axis, values: (_plot, ticks) => ticks.map((value) => this.spec.format(value)), size: 56 },
        ],
        series: [
          {},
          ...names.map((label, index) => ({
            label,
            stroke: colours[index % colours.length]!,
            width: 1.5,
            spanGaps: false,
            points: { show: false },
          })),
        ],
      },
      [[], ...names.map(() => [])] as unknown as uPlot.AlignedData,
      this.place,
    )
  }
}

/** The live plots of the overview. */
export class Plots {
  private readonly plots = specs.map((spec) => new LivePlot(spec))

  constructor() {
    const parent = byId('plots')
    for (const plot of this.plots) plot.attach(parent)
    new ResizeObserver(() => {
      for (const plot of this.plots) plot.resize()
    }).observe(parent)
  }

  draw(history: History, ids: readonly string[]): void {
    for (const plot of this.plots) plot.draw(history, ids)
  }
}
