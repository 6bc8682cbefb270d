import type { Socket } from 'node:net'
import type { ClientConnection } from '../../gateway/client-connection.ts'
import type { TcpSession } from '../../gateway/tcp-session.ts'
import { CloseCode } from '../../protocol/close-codes.ts'
import { cutSoon } from '../last-words.ts'

/**
 * Two sockets that get what the other one brings, at the pace of the slower side, until both have ended. An end goes on to the other
 * side and leaves the way back open; a break ends both, after what had come before it.
 */
export class TcpRelay implements ClientConnection {
  readonly transport = 'tcp'
  readonly pendingBytes = 0
  private readonly client: Socket
  private readonly upstream: Socket
  private readonly ended: (relay: TcpRelay) => void
  private session: TcpSession | null = null
  private sent = 0
  private got = 0
  private idleMs = 0
  private over = false

  /** `ended` is called once, when no byte will move any more. */
  constructor(client: Socket, upstream: Socket, ended: (relay: TcpRelay) => void) {
    this.client = client
    this.upstream = upstream
    this.ended = ended
  }

  /** Both sockets are the relay's from now on. */
  begin(session: TcpSession): void {
    this.session = session
    this.watch(this.client, this.upstream)
    this.watch(this.upstream, this.client)
    this.client.pipe(this.upstream)
    this.upstream.pipe(this.client)
  }

  /** To be called every `elapsedMs`. Cuts both when nothing has moved for `idleMostMs`. */
  sweep(elapsedMs: number, idleMostMs: number): void {
    const moved = this.count()
    this.idleMs = moved ? 0 : this.idleMs + elapsedMs
    if (this.idleMs >= idleMostMs) this.close()
  }

  close(): void {
    this.client.resetAndDestroy()
    this.upstream.resetAndDestroy()
    this.finish()
  }

  private watch(socket: Socket, other: Socket): void {
    socket.on('error', () => {})
    socket.on('close', () => {
      const broken = !socket.readableEnded || !socket.writableFinished
      if (broken && !other.destroyed) {
        other.destroySoon()
        cutSoon(other)
      }
      if (other.destroyed) this.finish()
    })
  }

  private finish(): void {
    if (this.over) return
    this.over = true
    this.count()
    this.session?.connectionClosed(this, CloseCode.normal, '')
    this.ended(this)
  }

  /** Returns whether any byte has moved since the last call. */
  private count(): boolean {
    const { client, sent, got } = this
    this.sent = client.bytesRead
    this.got = client.bytesWritten
    const moved = this.sent - sent + this.got - got
    if (moved > 0) this.session?.moved(this.sent - sent, this.got - got)
    return moved > 0
  }

  // Nodes and channels have nothing to say to it.
  deliver(): boolean {
    return true
  }
  deliverShared(): void {}
  keepsUp(): boolean {
    return true
  }
  pause(): void {}
  resume(): void {}
}
