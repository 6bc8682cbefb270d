import { sharedClockUs } from '../measure/clock.ts'

/** An event of the chat completions dialect, with a number and the time of its making. */
export function tokenEvent(sequence: number, padBytes = 0): string {
  const content = `${'x'.repeat(padBytes)} token${sequence}@${sharedClockUs()}`
  return `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[{"index":0,"delta":{"content":"${content}"},"finish_reason":null}]}\n\n`
}
