import { expect, test } from 'vitest'
import { dialectOf, dialects, encodeStreamFailure, isWhole } from '../../../src/core/llm/dialect.ts'
import { parseGeneration } from '../../../src/core/llm/request.ts'
import { mayAskAnother } from '../../../src/core/llm/retry.ts'
import { eventsOf, modelOf, parseOrder } from '../../support/llm-story.ts'

const pathOf = {
  openai: '/v1/chat/completions',
  'openai-responses': '/v1/responses',
  anthropic: '/v1/messages',
  'ai-sdk': '/api/chat',
}

test('what is spoken at a path', () => {
  expect(Object.values(pathOf).map(dialectOf)).toEqual(['openai', 'openai-responses', 'anthropic', null])
  expect(dialectOf('/openai/deployments/x/chat/completions')).toBe('openai')
  expect(dialectOf('/v1/embeddings')).toBe(null)
})

test.each(dialects)('%s: a stream is whole with its mark and at no place before', (dialect) => {
  const events = [...eventsOf(pathOf[dialect], parseOrder(modelOf({ tokens: 20 })))]
  expect(isWhole(dialect, events.join(''))).toBe(true)
  for (let end = 0; end <= 20; end++) expect(isWhole(dialect, events.slice(0, end).join(''))).toBe(false)
})

test.each(dialects)('%s: an error of the server is an end as well', (dialect) => {
  const failure = encodeStreamFailure(dialect, { code: 'X', message: 'so "it" is\n' })
  expect(isWhole(dialect, failure)).toBe(true)
  expect(failure).toMatch(/\n\n$/)
})

test('a chat and a key are found in headers and bodies', () => {
  const parse = (
    body: unknown,
    headers: Record<string, string>,
    affinity: Parameters<typeof parseGeneration>[0]['affinity'],
  ) =>
    parseGeneration({
      header: (name) => headers[name],
      body: typeof body === 'string' ? body : JSON.stringify(body),
      affinity,
      alwaysStreams: false,
    })
  expect(parse({ stream: true, user: 'u' }, {}, { body: 'user' })).toEqual({
    streams: true,
    chat: null,
    key: 'u',
  })
  expect(parse({ metadata: { chat: [7] } }, { 'x-chat-id': 'c' }, { body: 'metadata.chat.0' })).toEqual({
    streams: false,
    chat: 'c',
    key: '7',
  })
  expect(parse({}, { 'x-user': 'h' }, { header: 'X-User' }).key).toBe('h')
  for (const body of ['', '[', '7', 'null', { user: null }, { user: '' }])
    expect(parse(body, {}, { body: 'user' })).toEqual({ streams: false, chat: null, key: null })
  expect(parse({ constructor: 1 }, {}, { body: '__proto__.x' }).key).toBe(null)
  const chat = { header: () => undefined, body: '{"id":"c1"}', affinity: null, alwaysStreams: true }
  expect(parseGeneration(chat)).toEqual({ streams: true, chat: 'c1', key: null })
})

test('who may be asked in place of another one', () => {
  expect(mayAskAnother('unanswered', 'ai-sdk')).toBe(true)
  expect(mayAskAnother('cut', 'openai')).toBe(true)
  expect(mayAskAnother('cut', 'ai-sdk')).toBe(false)
  expect(mayAskAnother('other', 'openai')).toBe(false)
})
