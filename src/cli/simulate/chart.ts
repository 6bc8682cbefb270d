/** One line of a chart: a value for each second. */
export interface Series {
  readonly name: string
  readonly values: readonly number[]
}

export interface Panel {
  readonly title: string
  readonly unit: string
  /** The scale is logarithmic: values of several sizes are to be compared. */
  readonly logarithmic?: boolean
  readonly series: readonly Series[]
}

const width = 760
const panelHeight = 190
const left = 70
const right = 20
const top = 64
const legendColumns = 2
/** Distinct for people who do not see all colours alike (Okabe and Ito 2008), on white and on dark ground. */
const colours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#7f7f7f', '#b8860b']

/** Panels below each other over one axis of seconds, as SVG with its own colours for light and dark. */
export function chart(title: string, panels: readonly Panel[]): string {
  const names = panels[0]?.series.map(({ name }) => name) ?? []
  const legendRows = Math.ceil(names.length / legendColumns)
  const head = top + legendRows * 18
  const height = head + panels.length * panelHeight + 30
  const body = panels.map((panel, i) => drawPanel(panel, head + i * panelHeight)).join('\n')
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escaped(title)}">
<style>
  svg { background: #fff; font: 12px system-ui, sans-serif } text { fill: #333 } .rule { stroke: #ddd } .line { fill: none; stroke-width: 1.8 }
  @media (prefers-color-scheme: dark) { svg { background: #16181d } text { fill: #ccc } .rule { stroke: #3a3d45 } }
</style>
<text x="${left}" y="28" font-size="13" font-weight="600">${escaped(title)}</text>
${legend(names)}
${body}
<text x="${(left + width - right) / 2}" y="${height - 8}" text-anchor="middle">seconds</text>
</svg>
`
}

function legend(names: readonly string[]): string {
  return names
    .map((name, i) => {
      const x = left + (i % legendColumns) * 335
      const y = 50 + Math.floor(i / legendColumns) * 18
      return `<rect x="${x}" y="${y - 8}" width="14" height="4" fill="${colourOf(i)}"/><text x="${x + 20}" y="${y}">${escaped(name)}</text>`
    })
    .join('\n')
}

function drawPanel({ title, unit, series, logarithmic = false }: Panel, y: number): string {
  const values = series.flatMap((one) => one.values).filter((value) => Number.isFinite(value))
  const seconds = Math.max(2, ...series.map((one) => one.values.length))
  const positive = values.filter((value) => value > 0)
  const most = niceAbove(Math.max(...values, Number.MIN_VALUE))
  const least = logarithmic ? 10 ** Math.floor(Math.log10(Math.min(...positive, most / 10))) : 0
  const plotTop = y + 26
  const plotHeight = panelHeight - 56
  const xOf = (second: number) => left + (second / (seconds - 1)) * (width - left - right)
  const part = (value: number) =>
    logarithmic
      ? Math.log(Math.max(value, least) / least) / Math.log(most / least)
      : (value - least) / (most - least)
  const yOf = (value: number) => plotTop + plotHeight * (1 - Math.min(1, part(value)))
  const ticks = logarithmic ? decades(least, most) : [0, most / 2, most]
  const rules = ticks.map(
    (tick) =>
      `<line class="rule" x1="${left}" x2="${width - right}" y1="${round(yOf(tick))}" y2="${round(yOf(tick))}"/><text x="${left - 8}" y="${round(yOf(tick) + 4)}" text-anchor="end">${label(tick)}</text>`,
  )
  const times = [0, 0.25, 0.5, 0.75, 1].map((at) => Math.round(at * (seconds - 1)))
  const axis = times.map(
    (second) =>
      `<text x="${round(xOf(second))}" y="${plotTop + plotHeight + 18}" text-anchor="middle">${second}</text>`,
  )
  const lines = series.map((one, i) => {
    const points = one.values.map((value, second) => `${round(xOf(second))},${round(yOf(value))}`).join(' ')
    return `<polyline class="line" stroke="${colourOf(i)}" points="${points}"><title>${escaped(one.name)}</title></polyline>`
  })
  return [
    `<text x="${left}" y="${y + 14}" font-weight="600">${escaped(title)}${unit === '' ? '' : `, ${escaped(unit)}`}</text>`,
    ...rules,
    ...axis,
    ...lines,
  ].join('\n')
}

function decades(least: number, most: number): number[] {
  const ticks: number[] = []
  for (let tick = least; tick <= most * 1.001; tick *= 10) ticks.push(tick)
  return ticks
}

function niceAbove(value: number): number {
  const size = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 5, 10].map((step) => step * size).find((step) => step >= value) ?? value
}

function label(value: number): string {
  return value >= 1000 ? `${value / 1000}k` : String(Number(value.toPrecision(3)))
}

function colourOf(index: number): string {
  return colours[index % colours.length]!
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`)
}
