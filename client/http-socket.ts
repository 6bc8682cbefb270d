import { clientSubprotocol } from '../src/protocol/client-frames.ts'
import { CloseCode } from '../src/protocol/close-codes.ts'
import { encodeTunnelClose, encodeTunnelFrame } from '../src/protocol/tunnel-frames.ts'
import { readEvents } from './event-stream.ts'
import type { WebSocketLike } from './types.ts'

/** What one request carries, a larger frame apart. */
const batchBytes = 256 * 1024

/** Browsers take no more for requests that may outlive their page. */
const keepaliveBytes = 32 * 1024

type Piece = Uint8Array<ArrayBuffer>

/**
 * `evenkeel.v1` where WebSockets do not get through: a stream of events downstream, one request after the other upstream (PROTOCOL.md §2.3).
 * To those who use it, it is a WebSocket.
 */
export class HttpSocket implements WebSocketLike {
  readonly protocol = clientSubprotocol
  binaryType = ''
  onopen: (() => void) | null = null
  onmessage: ((event: { data: unknown }) => void) | null = null
  onclose: ((event: { code: number; reason: string }) => void) | null = null
  onerror = null
  readonly #url: string
  readonly #headers: Record<string, string>
  readonly #abort = new AbortController()
  #address = ''
  #greeted = false
  #posts: Promise<void> | null = null
  #waiting: Piece[][] = []

  /** `token`: of who opens it. */
  constructor(url: string, token?: string) {
    this.#url = url
    this.#headers = token ? { authorization: `Bearer ${token}` } : {}
    queueMicrotask(() => this.onopen?.())
  }

  /** The first frame, hello, opens the stream. */
  send(frame: string | Piece): void {
    if (this.#greeted) {
      this.#waiting.push(encodeTunnelFrame(frame))
      void this.#post()
    } else {
      this.#greeted = true
      void this.#listen(frame)
    }
  }

  close(code: number, reason: string): void {
    // After 1000 the session ends; otherwise that the stream is gone says enough.
    if (code !== CloseCode.normal || this.#address === '') this.#end(code, reason)
    else {
      this.#waiting = [encodeTunnelClose(code, reason)]
      void this.#post().finally(() => this.#end(code, reason))
    }
  }

  async #listen(body: string | Piece): Promise<void> {
    try {
      const { signal } = this.#abort
      const headers = this.#headers
      const response = await fetch(this.#url, { method: 'POST', headers, body, signal })
      if (response.ok && response.body !== null)
        for await (const { type, data } of readEvents(response.body)) this.#event(type, data)
    } catch {
      // Lost, which is what an end without a word means too.
    }
    this.#end(CloseCode.abnormal, '')
  }

  #event(type: string, data: string): void {
    if (type === 'open') this.#address = `${this.#url}/${data}`
    else if (type === 'close') {
      const { code, reason } = JSON.parse(data)
      this.#end(code, reason)
    } else this.onmessage?.({ data: type === 'binary' ? bytesOf(data).buffer : JSON.parse(data) })
  }

  /** One request at a time: so they arrive in order, and the gateway can slow us down. */
  #post(): Promise<void> {
    this.#posts ??= this.#postAll().finally(() => {
      this.#posts = null
    })
    return this.#posts
  }

  async #postAll(): Promise<void> {
    const { signal } = this.#abort
    while (this.#waiting.length > 0 && !signal.aborted) {
      const body = new Blob(this.#batch())
      // So that a last word is not lost with the page.
      const keepalive = body.size < keepaliveBytes
      try {
        if (!(await fetch(this.#address, { method: 'POST', body, signal, keepalive })).ok) throw null
      } catch {
        // What was under way is unknown; to resume is what clears that up.
        this.#end(CloseCode.abnormal, '')
      }
    }
  }

  #batch(): Piece[] {
    const batch: Piece[] = []
    let bytes = 0
    do {
      for (const piece of this.#waiting.shift()!) {
        batch.push(piece)
        bytes += piece.length
      }
    } while (bytes + (this.#waiting[0]?.[1]?.length ?? batchBytes) < batchBytes)
    return batch
  }

  #end(code: number, reason: string): void {
    if (this.#abort.signal.aborted) return
    this.#abort.abort()
    this.onclose?.({ code, reason })
  }
}

function bytesOf(base64: string): Piece {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))
}
