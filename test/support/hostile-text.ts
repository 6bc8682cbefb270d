import type { Random } from './random.ts'

/** What ends a line, or looks as if it did. */
export const lineEnds = [
  '\r',
  '\n',
  '\r\n',
  '\n\r',
  '\0',
  '\u2028',
  '\u2029',
  '\u0085',
  '\v',
  '\f',
  '\ufeff',
  ':',
  ' ',
  '',
]
/** What looks like a field, or may be cut in half. */
const words = ['id: 7', 'data: x', 'event: evil', 'retry: 0', 'id', 'ä', '🌊', 'plain']
const pieces = [...lineEnds, ...words]

/** Text that would do harm in a stream of events if it could. */
export function hostileText(random: Random): string {
  return Array.from({ length: random.int(0, 6) }, () => random.pick(pieces)).join('')
}

/** As it comes out of EventSource. */
export function asHeard(text: string): string {
  return text.replace(/\r\n|\r/g, '\n')
}
