import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { PlacedEvent } from '../../src/core/run/events.ts'
import type { Random } from './random.ts'
import { RunTranscript } from './run-reader.ts'
import type { StoryPolicy, StoryRequest } from './run-story.ts'

export interface FollowerOptions {
  /** Ports of gateways that are there. */
  ports(): readonly number[]
  random: Random
  /** How it reads: `slow` stops now and then, `dead` opens a stream beside it that nobody reads. */
  manner: 'eager' | 'slow' | 'dead'
  /** A stream that is silent for so long is left. */
  silenceMs: number
}

const retryMs = 50
const callMs = 4_000

/** Starts one run by way of any gateway and reads it to its end, whatever becomes of the gateways. */
export class RunFollower extends RunTranscript {
  readonly policy: StoryPolicy
  readonly request: StoryRequest
  run = ''
  connections = 0
  private readonly options: FollowerOptions
  private readonly key: string
  private readonly sockets = new Set<IncomingMessage>()

  constructor(policy: StoryPolicy, story: StoryRequest, key: string, options: FollowerOptions) {
    super()
    this.policy = policy
    this.request = story
    this.key = key
    this.options = options
  }

  async follow(signal: AbortSignal): Promise<void> {
    const body = JSON.stringify({
      pool: 'default',
      name: this.policy,
      requestJson: JSON.stringify(this.request),
      idempotencyKey: this.key,
      mode: 'durable',
    })
    while (this.run === '' && !signal.aborted) {
      const answer = await this.call('/start', body)
      if (answer === null) await delay(retryMs)
      else this.run = (JSON.parse(answer) as { run: string }).run
    }
    while (this.terminal === null && !signal.aborted) {
      await this.read(signal).catch(() => {})
      if (this.terminal === null) await delay(retryMs)
    }
    for (const socket of this.sockets) socket.destroy()
  }

  /** The whole text as a reader gets it that has nothing. */
  async again(): Promise<RunTranscript> {
    const transcript = new RunTranscript()
    const text = await this.call(`/read?run=${this.run}`)
    for (const line of (text ?? '').split('\n'))
      if (line !== '') transcript.take(JSON.parse(line) as PlacedEvent)
    return transcript
  }

  private async read(signal: AbortSignal): Promise<void> {
    const after = this.offset === null ? '' : `&after=${this.offset}`
    const path = `/read?run=${this.run}${after}`
    if (this.options.manner === 'dead' && this.sockets.size === 0) await this.ignore(path)
    const stream = await this.open(path)
    if (stream === null) return
    this.connections++
    let timer = setTimeout(() => {}, 0)
    const patience = () => {
      clearTimeout(timer)
      timer = setTimeout(() => stream.destroy(), this.options.silenceMs)
    }
    const stop = () => stream.destroy()
    signal.addEventListener('abort', stop)
    patience()
    try {
      // Not by `for await`: what came before an error counts too.
      await new Promise<void>((resolve) => {
        let rest = ''
        stream.setEncoding('utf8')
        stream.on('data', (chunk: string) => {
          patience()
          const lines = (rest + chunk).split('\n')
          rest = lines.pop()!
          for (const line of lines) if (line !== '') this.take(JSON.parse(line) as PlacedEvent)
          if (this.options.manner === 'slow' && this.options.random.chance(0.2)) this.rest(stream, patience)
        })
        stream.on('close', resolve)
        stream.on('error', () => {})
      })
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
    }
  }

  private rest(stream: IncomingMessage, patience: () => void): void {
    stream.pause()
    setTimeout(
      () => {
        patience()
        stream.resume()
      },
      this.options.random.int(20, 400),
    )
  }

  /** Opens a stream that is never read. */
  private async ignore(path: string): Promise<void> {
    const stream = await this.open(path)
    if (stream === null) return
    stream.on('error', () => {})
    this.sockets.add(stream)
  }

  private async open(path: string): Promise<IncomingMessage | null> {
    const ports = this.options.ports()
    if (ports.length === 0) return null
    const port = this.options.random.pick(ports)
    const outgoing = request({ host: '127.0.0.1', port, path, agent: false })
    outgoing.setTimeout(callMs, () => outgoing.destroy())
    outgoing.end()
    try {
      const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
      outgoing.setTimeout(0)
      outgoing.on('error', () => {})
      if (response.statusCode === 200) return response
      response.resume()
      if (response.statusCode === 410) throw new Error(`gap in run ${this.run} behind ${this.offset}`)
      return null
    } catch (error) {
      outgoing.on('error', () => {})
      if (String(error).includes('gap')) this.events.push({ type: 'gap', oldest: '' })
      return null
    }
  }

  private async call(path: string, body?: string): Promise<string | null> {
    const ports = this.options.ports()
    if (ports.length === 0) return null
    try {
      const response = await fetch(`http://127.0.0.1:${this.options.random.pick(ports)}${path}`, {
        ...(body === undefined ? {} : { method: 'POST', body }),
        signal: AbortSignal.timeout(callMs),
      })
      const text = await response.text()
      return response.ok ? text : null
    } catch {
      return null
    }
  }
}
