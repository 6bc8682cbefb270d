import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AnswerParser } from '../../../src/edge/llm/answer-parser.ts'

function parse(parts: readonly (string | Buffer)[], end = false) {
  const seen = { status: 0, headers: [] as readonly string[], body: '', ended: false }
  const parser = new AnswerParser({
    head: (status, _text, headers) => Object.assign(seen, { status, headers }),
    data: (buffer, from, to) => {
      seen.body += buffer.toString('latin1', from, to)
    },
    end: () => {
      seen.ended = true
    },
  })
  for (const part of parts) parser.push(Buffer.from(part as string, 'latin1'))
  const whole = end ? parser.ended() : parser.done
  return { ...seen, whole, reusable: parser.reusable, keepAlive: parser.keepAliveSeconds }
}

const head = (...lines: string[]) => `${['HTTP/1.1 200 OK', ...lines].join('\r\n')}\r\n\r\n`
const chunked = (...pieces: string[]) =>
  `${pieces.map((piece) => `${piece.length.toString(16)};x=1\r\n${piece}\r\n`).join('')}0\r\nTrailer: t\r\n\r\n`

test('chunks, however they are cut', () => {
  const answer = `HTTP/1.1 103 Early\r\nLink: a\r\n\r\n${head('Transfer-Encoding: chunked', 'X-A: 1', 'x-a:2 ')}${chunked('data: a\n\n', 'b'.repeat(40), 'c')}`
  fc.assert(
    fc.property(fc.array(fc.nat(answer.length), { maxLength: 12 }), (cuts) => {
      const at = [0, ...cuts.toSorted((a, b) => a - b), answer.length]
      const parts = at.slice(1).map((end, i) => answer.slice(at[i], end))
      const { status, headers, body, whole, reusable } = parse(parts)
      expect({ status, headers, body, whole, reusable }).toEqual({
        status: 200,
        headers: ['Transfer-Encoding', 'chunked', 'X-A', '1', 'x-a', '2'],
        body: `data: a\n\n${'b'.repeat(40)}c`,
        whole: true,
        reusable: true,
      })
    }),
  )
})

test('a length, and an end by the connection', () => {
  expect(parse([head('Content-Length: 3', 'Keep-Alive: timeout=5, max=9'), 'ab', 'c'])).toMatchObject({
    body: 'abc',
    whole: true,
    reusable: true,
    keepAlive: 5,
  })
  expect(parse([head('Content-Length: 0')])).toMatchObject({ body: '', whole: true })
  expect(parse(['HTTP/1.1 204 None\r\n\r\n'])).toMatchObject({ status: 204, whole: true, reusable: true })
  expect(parse([head(), 'abc'])).toMatchObject({ body: 'abc', whole: false })
  expect(parse([head(), 'abc'], true)).toMatchObject({ body: 'abc', whole: true, reusable: false })
})

test('what is cut is not whole, and no connection is used again of which more is known than was asked', () => {
  expect(parse([head('Content-Length: 3'), 'ab'], true).whole).toBe(false)
  expect(parse([head('Transfer-Encoding: chunked'), '3\r\nabc\r\n'], true).whole).toBe(false)
  expect(parse([head('Content-Length: 1'), 'abc'])).toMatchObject({ body: 'a', reusable: false })
  expect(parse([head('Content-Length: 1', 'Connection: close'), 'a']).reusable).toBe(false)
  expect(parse([head('Content-Length: 9', 'Transfer-Encoding: chunked'), chunked('abc')])).toMatchObject({
    body: 'abc',
    reusable: false,
  })
})

describe('no proper answer', () => {
  test.each([
    ['SSH-2.0-OpenSSH\r\n\r\n'],
    ['HTTP/1.1 101 Switching Protocols\r\n\r\n'],
    [head('no colon')],
    [head('a b: c')],
    [head(' folded: c')],
    [head('a: \x01')],
    [head('Content-Length: 1', 'Content-Length: 2')],
    [head('Content-Length: -1')],
    [`${head('Transfer-Encoding: chunked')}xyz\r\n`],
    [`${head('Transfer-Encoding: chunked')}\r\n`],
    [`${head('Transfer-Encoding: chunked')}2\r\nabc`],
    [`${head('Transfer-Encoding: chunked')}ffffffffffff\r\n`],
    [`${head('Transfer-Encoding: chunked')}1;${'x'.repeat(5_000)}`],
    ['x'.repeat(70_000)],
  ])('%#', (answer) => {
    expect(() => parse([answer])).toThrow('no proper answer')
  })
})
