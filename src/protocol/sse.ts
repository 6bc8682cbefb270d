/**
 * Server-Sent Events (WHATWG HTML, §9.2). `data` may hold any text: every line ending in it begins a new `data:` line.
 * `event` and `id` must not contain CR, LF or NUL; that would inject fields.
 */
export function encodeEvent(
  data: string,
  fields: { event?: string; id?: string; retry?: number } = {},
): string {
  let text = ''
  if (fields.event !== undefined) text += `event: ${checked(fields.event)}\n`
  if (fields.id !== undefined) text += `id: ${checked(fields.id)}\n`
  if (fields.retry !== undefined) text += `retry: ${Math.max(0, Math.floor(fields.retry))}\n`
  for (const line of data.split(/\r\n|\r|\n/)) text += `data: ${line}\n`
  return `${text}\n`
}

export function encodeComment(text: string): string {
  return `: ${checked(text)}\n\n`
}

function checked(value: string): string {
  if (/[\r\n\0]/.test(value)) throw new RangeError('an SSE field must not contain CR, LF or NUL')
  return value
}
