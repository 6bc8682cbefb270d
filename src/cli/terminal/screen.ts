import type { WriteStream } from 'node:tty'
import { type Colour, createOutput } from '../output.ts'

export interface Span {
  text: string
  colour?: Colour
}

/** One line, from left to right. */
export type Line = Span[]

const enter = '\u001b[?1049h\u001b[?25l'
const leave = '\u001b[?25h\u001b[?1049l'
const home = '\u001b[H'
const clearRestOfLine = '\u001b[K'
const clearBelow = '\u001b[J'

export interface Screen {
  readonly columns: number
  readonly rows: number
  draw(lines: Line[]): void
  onResize(listener: () => void): void
  /** Gives the terminal back as it was, with `last` as what remains to be seen. */
  close(last: Line[]): void
}

/** Takes over the terminal's alternate screen, and gives it back however the process ends. */
export function openScreen(stream: WriteStream): Screen {
  const { colour } = createOutput(stream)
  const render = (line: Line) =>
    cut(line, screen.columns)
      .map((span) => (span.colour === undefined ? span.text : colour(span.colour, span.text)))
      .join('')
  let open = true
  const restore = () => {
    if (open) stream.write(leave)
    open = false
  }
  process.on('exit', restore)
  // Before the stack trace is printed, which would vanish with the alternate screen.
  process.on('uncaughtExceptionMonitor', restore)
  stream.write(enter)

  // Some terminals do not know their size.
  const screen: Screen = {
    get columns() {
      return stream.columns || 80
    },
    get rows() {
      return stream.rows || 24
    },
    draw(lines) {
      // A terminal that is slow skips frames.
      if (!open || stream.writableNeedDrain) return
      const visible = lines.slice(0, screen.rows).map((line) => render(line) + clearRestOfLine)
      // One write, so that no half of a frame is seen.
      stream.write(home + visible.join('\r\n') + clearBelow)
    },
    onResize: (listener) => void stream.on('resize', listener),
    close(last) {
      restore()
      process.off('exit', restore)
      process.off('uncaughtExceptionMonitor', restore)
      stream.removeAllListeners('resize')
      for (const line of last) stream.write(`${render(line)}\n`)
    },
  }
  return screen
}

function cut(line: Line, columns: number): Line {
  let left = columns
  return line.flatMap((span) => {
    const text = span.text.slice(0, left)
    left -= text.length
    return text === '' ? [] : [{ ...span, text }]
  })
}
