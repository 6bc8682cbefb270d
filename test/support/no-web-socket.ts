import type { WebSocketLike } from '../../client/index.ts'

/** As behind a proxy that knows no upgrades. */
export class NoWebSocket implements WebSocketLike {
  readonly protocol = ''
  binaryType = ''
  onopen = null
  onmessage = null
  onclose: ((event: { code: number; reason: string }) => void) | null = null
  onerror = null

  constructor() {
    setImmediate(() => this.onclose?.({ code: 1006, reason: '' }))
  }

  send(): void {}

  close(): void {}
}
