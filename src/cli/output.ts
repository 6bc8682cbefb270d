import { type StyleTextOptions, stripVTControlCharacters, styleText } from 'node:util'

export type Colour = 'green' | 'yellow' | 'red' | 'dim' | 'bold'

export interface Cell {
  text: string
  colour?: Colour
}

export interface Column<Row> {
  title: string
  /** Numbers read best at the right. Default left. */
  align?: 'left' | 'right'
  cell(row: Row): string | number | Cell
}

/** Where commands print: results on `stdout`, progress on `stderr`. */
export interface Output {
  line(text: string): void
  json(value: unknown): void
  table<Row>(rows: Row[], columns: Column<Row>[]): void
  colour(colour: Colour, text: string): string
}

export function createOutput(stream: NodeJS.WriteStream = process.stdout): Output {
  // styleText itself leaves colours out when the stream is no terminal or NO_COLOR is set.
  const options: StyleTextOptions = { stream, validateStream: true }
  const colour = (name: Colour, text: string) => styleText(name, text, options)
  return {
    colour,
    line: (text) => void stream.write(`${text}\n`),
    json: (value) => void stream.write(`${JSON.stringify(value, null, 2)}\n`),
    table(rows, columns) {
      for (const line of layOut(rows, columns, colour)) stream.write(`${line}\n`)
    },
  }
}

function layOut<Row>(rows: Row[], columns: Column<Row>[], colour: Output['colour']): string[] {
  const body = rows.map((row) => columns.map((column) => toCell(column.cell(row))))
  const head = columns.map(({ title }): Cell => ({ text: title, colour: 'bold' }))
  const widths = columns.map((_, index) =>
    Math.max(...[head, ...body].map((line) => line[index]!.text.length)),
  )
  return [head, ...body].map((line) =>
    line
      .map((cell, index) => {
        const width = widths[index]!
        const right = columns[index]!.align === 'right'
        const padded = right ? cell.text.padStart(width) : cell.text.padEnd(width)
        return cell.colour === undefined ? padded : colour(cell.colour, padded)
      })
      .join('  ')
      .trimEnd(),
  )
}

function toCell(value: string | number | Cell): Cell {
  const cell = typeof value === 'object' ? value : { text: String(value) }
  return { ...cell, text: printable(cell.text) }
}

/** Names come from nodes and clients: what could steer the terminal is taken out. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is removed here
  return stripVTControlCharacters(text).replace(/[\u0000-\u001f\u007f-\u009f]/g, '\ufffd')
}

export function percent(ratio: number): string {
  return `${(ratio * 100).toFixed(1)} %`
}

export function milliseconds(value: number | null): string {
  if (value === null) return '-'
  return value < 10_000
    ? `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`
    : `${(value / 1000).toFixed(1)} s`
}

/** `3 d 4 h`, `12 min`, `8 s` */
export function age(sinceMs: number, nowMs: number): string {
  const seconds = Math.max(0, Math.round((nowMs - sinceMs) / 1000))
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`
}
