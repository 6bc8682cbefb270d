import { once } from 'node:events'
import { onTestFinished } from 'vitest'
import { WebSocket } from 'ws'
import {
  type ClientHello,
  type ClientWelcome,
  clientSubprotocol,
  encodeClientHello,
  parseClientWelcome,
} from '../../src/protocol/client-frames.ts'
import { until } from './until.ts'

/** Speaks `evenkeel.v1` frame by frame and does nothing by itself. */
export class RawResumableClient {
  /** As text, whatever they were. */
  readonly frames: string[] = []
  readonly ended: Promise<{ code: number; reason: string }>
  private readonly ws: WebSocket
  private readonly looks = new Set<() => void>()

  private constructor(ws: WebSocket) {
    this.ws = ws
    ws.on('message', (data) => {
      this.frames.push(String(data))
      for (const look of [...this.looks]) look()
    })
    ws.on('error', () => {})
    this.ended = new Promise((resolve) =>
      ws.once('close', (code, reason) => {
        resolve({ code, reason: String(reason) })
        for (const look of [...this.looks]) look()
      }),
    )
  }

  /** `protocols` are offered besides. */
  static async open(wsUrl: string, protocols: readonly string[] = []): Promise<RawResumableClient> {
    const ws = new WebSocket(wsUrl, [clientSubprotocol, ...protocols], { perMessageDeflate: false })
    onTestFinished(() => ws.terminate())
    await once(ws, 'open')
    return new RawResumableClient(ws)
  }

  /** Opens, says hello and is welcomed. */
  static async connect(
    wsUrl: string,
    hello: ClientHello = {},
  ): Promise<RawResumableClient & { welcome: ClientWelcome }> {
    const client = await RawResumableClient.open(wsUrl)
    client.send(encodeClientHello(hello))
    return Object.assign(client, { welcome: await client.welcomed() })
  }

  get closed(): boolean {
    return this.ws.readyState === WebSocket.CLOSED
  }

  send(frame: string | Buffer): void {
    this.ws.send(frame)
  }

  async welcomed(): Promise<ClientWelcome> {
    return parseClientWelcome(await this.frame('w'))
  }

  /** Waits for the frame and for all before it. */
  async frame(start: string, count = 1): Promise<string> {
    const found = () => this.frames.filter((frame) => frame.startsWith(start))
    await until(() => found().length >= count || this.closed, this.looks, { what: `${count} × ${start}` })
    const frame = found()[count - 1]
    if (frame === undefined) throw new Error(`closed before ${start}: ${this.frames.join(' ')}`)
    return frame
  }

  /** What the node has sent, in order. */
  messages(): string[] {
    return this.frames.filter((frame) => frame.startsWith('m')).map((frame) => frame.slice(1))
  }

  /** As when the network is gone. */
  cut(): void {
    this.ws.terminate()
  }

  close(code: number): void {
    this.ws.close(code)
  }
}
