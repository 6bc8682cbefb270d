import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { sharedClockUs } from '../measure/clock.ts'
import type { Commands, FirstTokensResult, OpenResult, StreamsOptions, TokensResult } from './commands.ts'
import { Histogram } from './histogram.ts'
import { Opening } from './opening.ts'

/** Every read is consumed before its callback returns. */
const readBuffer = Buffer.allocUnsafeSlow(256 * 1024)
const token = / token(\d+)@(\d+)"/g
/** A token that a read cut in two is within so many characters of its end. */
const tail = 64
/** Behind this the last chunk of an answer is over. */
const end = '0\r\n\r\n'

function requestFor({ port, path, body }: Pick<StreamsOptions, 'port' | 'path' | 'body'>): string {
  if (body === null) return `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`
  return [
    `POST ${path} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    '',
    body,
  ].join('\r\n')
}

interface StreamEvents {
  opened(): void
  token(stream: Stream, sequence: number, sentAtUs: number, now: number): void
  ended(stream: Stream): void
  closed(stream: Stream, reason: string): void
}

/** One client: a request, and the tokens of its answer. */
class Stream {
  readonly socket: Socket
  next = 0
  isOpen = false
  #rest = ''
  #events: StreamEvents

  constructor(port: number, events: StreamEvents) {
    this.#events = events
    this.socket = connect({
      host: '127.0.0.1',
      port,
      noDelay: true,
      onread: {
        buffer: readBuffer,
        callback: (bytes) => {
          this.#read(readBuffer.toString('latin1', 0, bytes))
          return true
        },
      },
    })
    this.socket.on('error', (error) => this.#closed(error.message))
    this.socket.on('close', () => this.#closed('closed by the server'))
  }

  request(text: string): void {
    this.next = 0
    this.#rest = ''
    this.isOpen = false
    this.socket.write(text)
  }

  discard(): void {
    this.#events = silent
    this.socket.destroy()
  }

  #closed(reason: string): void {
    const events = this.#events
    this.#events = silent
    events.closed(this, reason)
  }

  #read(text: string): void {
    const now = sharedClockUs()
    const all = this.#rest + text
    if (!this.isOpen) {
      if (!all.includes('\r\n\r\n')) {
        this.#rest = all
        return
      }
      if (!all.startsWith('HTTP/1.1 200')) {
        this.socket.destroy()
        this.#closed(all.slice(0, 60).replaceAll('\r\n', ' '))
        return
      }
      this.isOpen = true
      this.#events.opened()
    }
    token.lastIndex = 0
    let used = 0
    for (let found = token.exec(all); found !== null; found = token.exec(all)) {
      used = token.lastIndex
      this.#events.token(this, Number(found[1]), Number(found[2]), now)
    }
    this.#rest = all.slice(Math.max(used, all.length - tail))
    if (this.#rest.endsWith(end) && this.#rest.includes('[DONE]')) this.#events.ended(this)
  }
}

const silent: StreamEvents = { opened() {}, token() {}, ended() {}, closed() {} }

/** Many clients whose streams do not end: every token is to come once and in order. */
export class TokenStreams implements StreamEvents {
  readonly #streams: Stream[] = []
  readonly #latency = new Histogram()
  readonly #notes: string[] = []
  readonly #opening = new Opening()
  #tokens = 0
  #closed = 0
  #wrong = 0
  #cpuBefore = process.cpuUsage()

  open(options: StreamsOptions): Promise<OpenResult> {
    const text = requestFor(options)
    return this.#opening.run(options.connections, this.#notes, () => {
      const stream = new Stream(options.port, this)
      this.#streams.push(stream)
      stream.request(text)
    })
  }

  beginWindow(): void {
    this.#tokens = 0
    this.#latency.reset()
    this.#cpuBefore = process.cpuUsage()
  }

  endWindow(): TokensResult {
    const { user, system } = process.cpuUsage(this.#cpuBefore)
    return {
      tokens: this.#tokens,
      closed: this.#closed,
      wrong: this.#wrong,
      notes: this.#notes,
      latencyUs: this.#latency.summary(),
      generatorCpuNs: (user + system) * 1000,
    }
  }

  discard(): void {
    for (const stream of this.#streams) stream.discard()
  }

  opened(): void {
    this.#opening.opened++
  }

  token(stream: Stream, sequence: number, sentAtUs: number, now: number): void {
    if (sequence !== stream.next) {
      this.#wrong++
      if (this.#notes.length < 8) this.#notes.push(`token ${sequence} came in place of ${stream.next}`)
    }
    stream.next = sequence + 1
    this.#tokens++
    this.#latency.add(now - sentAtUs)
  }

  ended(): void {}

  closed(_stream: Stream, reason: string): void {
    if (this.#opening.running) this.#opening.failed++
    else this.#closed++
    if (this.#notes.length < 8) this.#notes.push(reason)
  }
}

/** One request after the other over one connection: the time from each request's write to its first token, in µs. */
export async function firstTokens(
  options: Omit<StreamsOptions, 'connections'> & { requests: number; pauseMs: number },
): Promise<{ latencyUs: ReturnType<Histogram['summary']>; failed: number; notes: string[] }> {
  const text = requestFor(options)
  const latency = new Histogram()
  const notes: string[] = []
  let settle: (reason: string | null) => void = () => {}
  let askedAt = 0
  const events: StreamEvents = {
    opened() {},
    token(_stream, sequence, _sentAtUs, now) {
      if (sequence === 0) latency.add(now - askedAt)
    },
    ended: () => settle(null),
    closed: (_stream, reason) => settle(reason),
  }
  const stream = new Stream(options.port, events)
  let failed = 0
  for (let i = 0; i < options.requests; i++) {
    const reason = await new Promise<string | null>((resolve) => {
      settle = resolve
      askedAt = sharedClockUs()
      stream.request(text)
    })
    if (reason !== null) {
      failed = options.requests - i
      notes.push(reason)
      break
    }
    if (options.pauseMs > 0) await sleep(options.pauseMs)
  }
  stream.discard()
  return { latencyUs: latency.summary(), failed, notes }
}

/** A reader may wait for ever for what was lost on its way; after some of them it is known. */
const patienceMs = 5_000
const failedMost = 5

/** The time from each request's write to the token, in µs. */
export async function resumes({
  port,
  path,
  requests,
  upTo,
}: Commands['resumes']['input']): Promise<FirstTokensResult> {
  const text = requestFor({ port, path, body: null })
  const latency = new Histogram()
  const notes: string[] = []
  let failed = 0
  for (let i = 0; i < requests; i++) {
    const asked = sharedClockUs()
    const { promise, resolve } = Promise.withResolvers<string | null>()
    const stream = new Stream(port, {
      opened() {},
      token(_stream, sequence) {
        if (sequence === upTo) resolve(null)
      },
      ended() {},
      closed: (_stream, why) => resolve(why),
    })
    stream.request(text)
    const timer = setTimeout(() => resolve(`nothing more for ${patienceMs / 1000} s`), patienceMs)
    const reason = await promise
    clearTimeout(timer)
    latency.add(sharedClockUs() - asked)
    stream.discard()
    if (reason === null) continue
    if (notes.length < 3) notes.push(reason)
    if (++failed === failedMost) break
  }
  return { latencyUs: latency.summary(), failed, notes }
}
