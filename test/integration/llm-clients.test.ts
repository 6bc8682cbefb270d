import Anthropic from '@anthropic-ai/sdk'
import { DefaultChatTransport, type UIMessage, type UIMessageChunk } from 'ai'
import { EventSource } from 'eventsource'
import OpenAI from 'openai'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { TestGateway } from '../support/in-process.ts'
import { counters, type LlmServer, startLlmGateway, startLlmServer } from '../support/llm.ts'
import { modelOf, type PartialOrder, textOf } from '../support/llm-story.ts'

/** The packages that people use, as they are, against the compatible routes. */

interface Streaming {
  /** The text so far, after each token. */
  readonly tokens: AsyncIterable<string>
  stop(): void
}

interface Client {
  readonly name: string
  start(gateway: TestGateway, order: PartialOrder): Promise<Streaming>
  /** What the client throws when the stream is lost. */
  readonly lost: object
}

const openai = (gateway: TestGateway) =>
  new OpenAI({ apiKey: 'k', baseURL: `${gateway.httpUrl}/v1`, maxRetries: 0 })

async function* mapped<T>(source: AsyncIterable<T>, text: (item: T) => string): AsyncIterable<string> {
  for await (const item of source) {
    const token = text(item)
    if (token !== '') yield token
  }
}

const messages = [{ role: 'user' as const, content: 'hi' }]

const clients: Client[] = [
  {
    name: 'openai, chat completions',
    async start(gateway, order) {
      const stream = await openai(gateway).chat.completions.create({
        model: modelOf(order),
        stream: true,
        messages,
      })
      return {
        tokens: mapped(stream, ({ choices }) => choices[0]?.delta.content ?? ''),
        stop: () => stream.controller.abort(),
      }
    },
    lost: { constructor: OpenAI.APIError, code: 'PRODUCER_LOST' },
  },
  {
    name: 'openai, responses',
    async start(gateway, order) {
      const stream = await openai(gateway).responses.create({
        model: modelOf(order),
        stream: true,
        input: 'hi',
      })
      return {
        tokens: mapped(stream, (event) => (event.type === 'response.output_text.delta' ? event.delta : '')),
        stop: () => stream.controller.abort(),
      }
    },
    lost: { constructor: OpenAI.APIError, code: 'PRODUCER_LOST' },
  },
  {
    name: '@anthropic-ai/sdk',
    async start(gateway, order) {
      const client = new Anthropic({ apiKey: 'k', baseURL: gateway.httpUrl, maxRetries: 0 })
      const stream = await client.messages.create({
        model: modelOf(order),
        stream: true,
        max_tokens: 9,
        messages,
      })
      return {
        tokens: mapped(stream, (event) =>
          event.type === 'content_block_delta' && event.delta.type === 'text_delta' ? event.delta.text : '',
        ),
        stop: () => stream.controller.abort(),
      }
    },
    lost: { constructor: Anthropic.APIError, type: 'api_error' },
  },
  {
    name: 'ai',
    async start(gateway, order) {
      const abort = new AbortController()
      const stream = await chatTransport(gateway, order).sendMessages({
        trigger: 'submit-message',
        chatId: 'c1',
        messageId: undefined,
        messages: [],
        abortSignal: abort.signal,
      })
      return { tokens: chunkTokens(stream), stop: () => abort.abort() }
    },
    lost: { constructor: Error, message: 'error part: the server was lost in the middle of its answer' },
  },
]

function chatTransport(gateway: TestGateway, order: PartialOrder, headers: Record<string, string> = {}) {
  return new DefaultChatTransport<UIMessage>({
    api: `${gateway.httpUrl}/api/chat`,
    body: { model: modelOf(order) },
    headers,
  })
}

/** As `useChat` does: an error part is an error. */
async function* chunkTokens(stream: ReadableStream<UIMessageChunk>): AsyncIterable<string> {
  for await (const chunk of stream) {
    if (chunk.type === 'text-delta') yield chunk.delta
    else if (chunk.type === 'error') throw new Error(`error part: ${chunk.errorText}`)
  }
}

async function all(tokens: AsyncIterable<string>): Promise<string> {
  let text = ''
  for await (const token of tokens) text += token
  return text
}

/** Reads until it breaks. */
async function untilError(tokens: AsyncIterable<string>, seen: (text: string) => void = () => {}) {
  let text = ''
  try {
    for await (const token of tokens) {
      text += token
      seen(text)
    }
  } catch (error) {
    return { text, error: error as Error }
  }
  throw new Error('it ended as if it were whole')
}

describe.each(clients)('$name', ({ start, lost }) => {
  test('streams', async () => {
    const server = await startLlmServer()
    const gateway = await startLlmGateway([server])
    for (const order of [{ tokens: 40 }, { tokens: 6, crlf: true, comments: true, piece: 5 }])
      expect(await all((await start(gateway, order)).tokens)).toBe(textOf(order))
    // The client may have read the end before the gateway has heard that it is written.
    await expect.poll(() => counters(gateway).ended).toEqual({ complete: 2, cancelled: 0, failed: 0 })
  })

  test('a client that stops ends the generation within a token', async () => {
    const server = await startLlmServer()
    const gateway = await startLlmGateway([server])
    const { tokens, stop } = await start(gateway, { tokens: 1_000, everyMs: 25 })
    let seen = 0
    await (async () => {
      for await (const _ of tokens) if (++seen === 4) stop()
    })().catch(() => {})
    const { gone } = await server.until(({ open, asked }) => asked === 1 && open === 0)
    // Tokens on the way while the client decided, and events that are no tokens.
    expect(gone[0]).toBeGreaterThanOrEqual(seen)
    expect(gone[0]).toBeLessThanOrEqual(seen + 4)
    expect(counters(gateway).ended.cancelled).toBe(1)
  })

  test('a server that is killed is an error of the client, and what came before it is whole', async () => {
    const [first, second] = [await startLlmServer('m1'), await startLlmServer('m2')]
    const gateway = await startLlmGateway([first])
    const { tokens } = await start(gateway, { tokens: 1_000, everyMs: 10 })
    let killed: Promise<void> | null = null
    const { text, error } = await untilError(tokens, () => (killed ??= first.kill()))
    await killed
    expect(textOf({ tokens: 1_000 }).startsWith(text)).toBe(true)
    expect(text).not.toBe('')
    expect(Object.getPrototypeOf(error).constructor === lostOf(lost) || error instanceof lostOf(lost)).toBe(
      true,
    )
    expect(error).toMatchObject(Object.fromEntries(Object.entries(lost).slice(1)))
    expect((await second.state()).asked).toBe(0)
    expect(counters(gateway).ended.failed).toBe(1)
  })

  test('an answer that ends well and too early is an error as well', async () => {
    const server = await startLlmServer()
    const gateway = await startLlmGateway([server])
    const { tokens } = await start(gateway, { tokens: 9, stop: 5 })
    const { error } = await untilError(tokens)
    expect(error).toBeInstanceOf(lostOf(lost))
  })

  test('a server that is lost before it said anything is nothing to the client', async () => {
    const server = await startLlmServer()
    const gateway = await startLlmGateway(['http://127.0.0.1:1', server])
    for (let i = 0; i < 6; i++)
      expect(await all((await start(gateway, { tokens: 3 })).tokens)).toBe(textOf({ tokens: 3 }))
    expect((await server.state()).asked).toBe(6)
  })
})

const lostOf = (lost: object) => (lost as { constructor: new () => Error }).constructor

describe('useChat({ resume: true })', () => {
  const resume = (gateway: TestGateway, headers: Record<string, string> = {}, chatId = 'c1') =>
    chatTransport(gateway, {}, headers).reconnectToStream({ chatId })

  async function begin(gateway: TestGateway, order: PartialOrder, headers: Record<string, string> = {}) {
    const abort = new AbortController()
    onTestFinished(() => abort.abort())
    const stream = await chatTransport(gateway, order, headers).sendMessages({
      trigger: 'submit-message',
      chatId: 'c1',
      messageId: undefined,
      messages: [],
      abortSignal: abort.signal,
    })
    return { reader: stream.getReader(), abort }
  }

  test('a chat that is idle has no stream, one that is not has all of it', async () => {
    const server = await startLlmServer()
    const gateway = await startLlmGateway([server])
    expect(await resume(gateway)).toBe(null)
    const { reader } = await begin(gateway, { tokens: 60, everyMs: 10 }, { 'x-run-mode': 'durable' })
    for (let i = 0; i < 10; i++) await reader.read()
    await reader.cancel()
    const resumed = await Promise.all([resume(gateway), resume(gateway)])
    const texts = await Promise.all(resumed.map((stream) => all(chunkTokens(stream!))))
    expect(texts).toEqual([textOf({ tokens: 60 }), textOf({ tokens: 60 })])
    expect(await resume(gateway)).toBe(null)
    expect((await server.state()).gone).toEqual([])
  })

  test('whoever has other credentials gets nothing, and a newer stream takes the place of an older one', async () => {
    const server = await startLlmServer()
    const gateway = await startLlmGateway([server])
    const mine = { authorization: 'Bearer mine', 'x-run-mode': 'durable' }
    const old = await begin(gateway, { tokens: 500, everyMs: 10 }, mine)
    await old.reader.read()
    await begin(gateway, { tokens: 20, everyMs: 10 }, mine)
    expect(await resume(gateway, { authorization: 'Bearer other' })).toBe(null)
    expect(await resume(gateway)).toBe(null)
    expect(await all(chunkTokens((await resume(gateway, mine))!))).toBe(textOf({ tokens: 20 }))
  })
})

test('eventsource follows a run of a language model, and comes back for no more than the rest', async () => {
  const server = await startLlmServer()
  const gateway = await startLlmGateway([server])
  const run = await startRun(gateway, server, { tokens: 30, everyMs: 5 })
  const seen: { data: string; id: string }[] = []
  const source = new EventSource(`${gateway.httpUrl}/runs/${run}/events`)
  onTestFinished(() => source.close())
  await new Promise<void>((resolve) => {
    source.onmessage = ({ data, lastEventId }) => {
      seen.push({ data, id: lastEventId })
      if (data === '[DONE]') resolve()
    }
  })
  source.close()
  const tokens = seen.slice(0, 30).map(({ data }) => JSON.parse(data).choices[0].delta.content)
  expect(tokens.join('')).toBe(textOf({ tokens: 30 }))
  expect(seen.map(({ id }) => id)).toEqual(seen.map((_, i) => `1-${i + 1}`))
  const rest = await fetch(`${gateway.httpUrl}/runs/${run}/events?after=1-30`)
  expect((await rest.text()).match(/^data:/gm)).toHaveLength(2)
  const nothing = await fetch(`${gateway.httpUrl}/runs/${run}/events?after=1-33`)
  expect(nothing.status).toBe(204)
})

async function startRun(gateway: TestGateway, _server: LlmServer, order: PartialOrder): Promise<string> {
  const response = await openai(gateway)
    .chat.completions.create(
      { model: modelOf(order), stream: true, messages },
      { headers: { 'x-run-mode': 'durable' } },
    )
    .asResponse()
  await response.body!.cancel()
  return response.headers.get('x-run-id')!
}
