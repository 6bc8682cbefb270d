/** A network that a button can take away. Everything of the page goes through it. */
export class Network {
  isOffline = false
  readonly WebSocket: typeof WebSocket
  readonly #sockets = new Set<CuttableSocket>()

  constructor() {
    const network = this
    this.WebSocket = class extends CuttableSocket {
      constructor(url: string, protocols: string[]) {
        super(network.isOffline ? null : new WebSocket(url, protocols))
        network.#sockets.add(this)
      }
    } as unknown as typeof WebSocket
    const { fetch } = globalThis
    globalThis.fetch = (...request) =>
      this.isOffline ? Promise.reject(new TypeError('offline')) : fetch(...request)
  }

  /** As when a cable is pulled, and put back in. */
  setOffline(isOffline: boolean): void {
    this.isOffline = isOffline
    for (const socket of this.#sockets) socket.cut()
    this.#sockets.clear()
    dispatchEvent(new Event(isOffline ? 'offline' : 'online'))
  }
}

/** A WebSocket that can be lost; without an inner one it never gets anywhere. */
class CuttableSocket {
  binaryType = 'blob'
  onopen: ((event: Event) => void) | null = null
  onmessage: ((event: MessageEvent) => void) | null = null
  onclose: ((event: { code: number; reason: string }) => void) | null = null
  onerror: ((event: Event) => void) | null = null
  readonly #inner: WebSocket | null

  constructor(inner: WebSocket | null) {
    this.#inner = inner
    if (inner === null) return
    inner.onopen = (event) => {
      inner.binaryType = this.binaryType as BinaryType
      this.onopen?.(event)
    }
    inner.onmessage = (event) => this.onmessage?.(event)
    inner.onclose = (event) => this.onclose?.(event)
  }

  get protocol(): string {
    return this.#inner?.protocol ?? ''
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    this.#inner?.send(data)
  }

  close(code: number, reason: string): void {
    this.#inner?.close(code, reason)
  }

  cut(): void {
    const { onclose } = this
    if (this.#inner !== null) {
      this.#inner.onmessage = null
      this.#inner.onclose = null
      // No code of the application's: to the gateway the client has vanished.
      this.#inner.close()
    }
    onclose?.({ code: 1006, reason: '' })
  }
}
