/** What the language models of the tests say, and how. */
export interface Order {
  readonly tokens: number
  readonly everyMs: number
  /** Before the head of the answer. */
  readonly headMs: number
  readonly status: number
  /** Reset before any byte of an answer. */
  readonly reset: boolean
  /** Reset after so many events; -1: never. */
  readonly cut: number
  /** … and the half of another one. */
  readonly half: boolean
  /** End well after so many events, without the mark of an end. */
  readonly stop: number
  /** Bytes of a write. */
  readonly piece: number
  /** Of each token, beside its number. */
  readonly pad: number
  /** Line ending. */
  readonly crlf: boolean
  /** A comment in front of every event. */
  readonly comments: boolean
}

export type PartialOrder = Partial<Record<keyof Order, number | boolean>>

/** As the name of a model. */
export function modelOf(order: PartialOrder): string {
  return `mock?${new URLSearchParams(Object.entries(order).map(([name, value]) => [name, String(Number(value))]))}`
}

export function parseOrder(model: string): Order {
  const fields = new URLSearchParams(model.split('?')[1] ?? '')
  const number = (name: string, fallback: number) => Number(fields.get(name) ?? fallback)
  return {
    tokens: number('tokens', 5),
    everyMs: number('everyMs', 0),
    headMs: number('headMs', 0),
    status: number('status', 200),
    reset: number('reset', 0) === 1,
    cut: number('cut', -1),
    half: number('half', 0) === 1,
    stop: number('stop', -1),
    piece: number('piece', Number.MAX_SAFE_INTEGER),
    pad: number('pad', 0),
    crlf: number('crlf', 0) === 1,
    comments: number('comments', 0) === 1,
  }
}

/** Not only ASCII, with all that could be taken for a line ending. */
export function tokenOf(index: number, pad = 0): string {
  return ` wörd${index}\u2028🙂${'x'.repeat(pad)}`
}

export function textOf(order: PartialOrder): string {
  const { tokens, pad } = parseOrder(modelOf(order))
  return Array.from({ length: tokens }, (_, index) => tokenOf(index, pad)).join('')
}

/** The events of an answer at this path, each with its blank line. */
export function* eventsOf(path: string, order: Order): Generator<string> {
  for (const event of plainEventsOf(path, order)) {
    const before = order.comments ? ': still here\n\n' : ''
    yield order.crlf ? `${before}${event}`.replaceAll('\n', '\r\n') : before + event
  }
}

function* plainEventsOf(path: string, { tokens, pad }: Order): Generator<string> {
  if (path.endsWith('/messages')) yield* anthropic(tokens, pad)
  else if (path.endsWith('/responses')) yield* responses(tokens, pad)
  else if (path.startsWith('/api/')) yield* aiSdk(tokens, pad)
  else yield* openai(tokens, pad)
}

const data = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`
const named = (value: { type: string }) => `event: ${value.type}\n${data(value)}`

function* openai(tokens: number, pad: number): Generator<string> {
  const head = { id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1_700_000_000, model: 'mock' }
  for (let i = 0; i < tokens; i++)
    yield data({ ...head, choices: [{ index: 0, delta: { content: tokenOf(i, pad) }, finish_reason: null }] })
  yield data({ ...head, choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })
  yield 'data: [DONE]\n\n'
}

function* responses(tokens: number, pad: number): Generator<string> {
  const response = { id: 'resp_1', object: 'response', status: 'in_progress', output: [] }
  let sequence_number = 0
  yield named({ type: 'response.created', response, sequence_number: sequence_number++ } as { type: string })
  for (let i = 0; i < tokens; i++) {
    const delta = { item_id: 'msg_1', output_index: 0, content_index: 0, delta: tokenOf(i, pad) }
    yield named({ type: 'response.output_text.delta', ...delta, sequence_number: sequence_number++ } as {
      type: string
    })
  }
  yield named({
    type: 'response.completed',
    response: { ...response, status: 'completed' },
    sequence_number,
  } as {
    type: string
  })
}

function* anthropic(tokens: number, pad: number): Generator<string> {
  const message = {
    id: 'msg_1',
    type: 'message',
    role: 'assistant',
    model: 'mock',
    content: [],
    stop_reason: null,
  }
  const usage = { input_tokens: 1, output_tokens: 1 }
  yield named({ type: 'message_start', message: { ...message, usage } } as { type: string })
  yield named({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } } as {
    type: string
  })
  for (let i = 0; i < tokens; i++)
    yield named({
      type: 'content_block_delta',
      index: 0,
      delta: { type: 'text_delta', text: tokenOf(i, pad) },
    } as { type: string })
  yield named({ type: 'content_block_stop', index: 0 } as { type: string })
  yield named({
    type: 'message_delta',
    delta: { stop_reason: 'end_turn' },
    usage: { output_tokens: tokens },
  } as {
    type: string
  })
  yield named({ type: 'message_stop' })
}

function* aiSdk(tokens: number, pad: number): Generator<string> {
  yield data({ type: 'start', messageId: 'm1' })
  yield data({ type: 'text-start', id: 't1' })
  for (let i = 0; i < tokens; i++) yield data({ type: 'text-delta', id: 't1', delta: tokenOf(i, pad) })
  yield data({ type: 'text-end', id: 't1' })
  yield data({ type: 'finish' })
  yield 'data: [DONE]\n\n'
}
