import { once } from 'node:events'
import { get, type IncomingMessage, type ServerResponse } from 'node:http'
import { expect, onTestFinished } from 'vitest'
import type { TestGateway } from './in-process.ts'
import { Migrations } from './migrations.ts'
import { until } from './until.ts'
import { startHttpUpstream, startUpstreamGateway, type TestUpstream } from './upstreams.ts'

/** What a client of a stream gets, byte for byte. */
export class Reader {
  text = ''
  ended: 'open' | 'end' | 'cut' = 'open'
  readonly response: IncomingMessage
  private readonly looks = new Set<() => void>()

  constructor(response: IncomingMessage) {
    this.response = response
    response.on('data', (chunk) => {
      this.text += String(chunk)
      this.look()
    })
    response.on('error', () => {})
    response.on('close', () => {
      this.ended = response.complete ? 'end' : 'cut'
      this.look()
    })
  }

  until(condition: () => boolean): Promise<void> {
    return until(condition, this.looks)
  }

  get ids(): number[] {
    return [...this.text.matchAll(/^id: (\d+)$/gm)].map((match) => Number(match[1]))
  }

  private look(): void {
    for (const look of [...this.looks]) look()
  }
}

export async function read(gateway: TestGateway, headers: Record<string, string> = {}): Promise<Reader> {
  const request = get(`http://127.0.0.1:${gateway.publicPort}/events`, { headers, agent: false })
  onTestFinished(() => void request.destroy())
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  return new Reader(response)
}

/** A stream of numbered events that is the same at each server: what is behind `Last-Event-ID`, and then what comes. */
export class Feed {
  length = 0
  readonly streams = new Set<ServerResponse>()
  readonly asked: (string | undefined)[] = []
  readonly closes = new Set<() => void>()

  async start(): Promise<TestUpstream> {
    return startHttpUpstream((request, response) => {
      const last = request.headers['last-event-id'] as string | undefined
      this.asked.push(last)
      response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' })
      for (let id = last === undefined || last === '' ? 1 : Number(last) + 1; id <= this.length; id++)
        response.write(event(id))
      response.write(': ready\n\n')
      this.streams.add(response)
      response.on('close', () => {
        this.streams.delete(response)
        for (const look of [...this.closes]) look()
      })
    })
  }

  emit(): void {
    const block = event(++this.length)
    for (const stream of this.streams) stream.write(block)
  }
}

export function event(id: number): string {
  return `id: ${id}\r\nevent: n\r\ndata: number ${id}\r\ndata: 🌊\r\n\r\n`.replaceAll(
    '\r\n',
    id % 2 === 0 ? '\n' : '\r\n',
  )
}

/** A client's stream goes to and fro between two upstreams while events come: it gets each once and in order. */
export async function moveStream(times: number): Promise<void> {
  const feed = new Feed()
  const [first, second] = [await feed.start(), await feed.start()]
  const gateway = await startUpstreamGateway([first, second], { migrate: 'redial' })
  const reader = await read(gateway)
  const timer = setInterval(() => feed.emit(), 1)
  onTestFinished(() => clearInterval(timer))
  await reader.until(() => reader.ids.length > 5)
  const migrations = new Migrations(gateway)
  const [session] = gateway.operator.sessions().sessions
  let at = session!.node
  for (let i = 0; i < times; i++) {
    const to = at === first.id ? second.id : first.id
    expect(await migrations.start(session!.id, to)).toMatchObject({ outcome: 'moved' })
    at = to
  }
  clearInterval(timer)
  await reader.until(() => reader.ids.at(-1) === feed.length)
  expect(reader.ids).toEqual(Array.from({ length: feed.length }, (_, i) => i + 1))
  expect(reader.ended).toBe('open')
  // Former upstreams are not read any more.
  await until(() => feed.streams.size === 1, feed.closes, { what: 'the end of former streams' })
  expect(gateway.operator.session(session!.id)).toMatchObject({ migrations: times, node: at })
}
