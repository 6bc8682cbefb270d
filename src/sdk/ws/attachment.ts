import type { IncomingMessage } from 'node:http'
import { CloseCode } from '../../protocol/close-codes.ts'
import type { CloseReason, Json, Session, SessionHandlers } from '../types.ts'
import type { WebSocketServerLike } from './attach.ts'
import { HandshakeSocket, handshakeRequest } from './handshake.ts'
import type { SessionSocket, SessionSocketClass } from './session-socket.ts'
import type { SocketCore, SocketHost } from './socket-core.ts'

/** What a `connection` handler finds as `request.session`. */
export interface RequestSession {
  /** The same for the whole life of the session, on every node. */
  readonly id: string
  /** The session was served before: by another node, or by this one when its move was called off. */
  readonly recovered: boolean
  /**
   * What was saved of the session, undefined at first. May be assigned at any time: then it survives the death of the node too.
   * Throws BAD_REQUEST, TOO_LARGE (64 KiB as JSON).
   */
  state: Json | undefined
  /** The message being handled was given to a node before, which may have handled it in part. */
  readonly redelivered: boolean
  /** Called before the session moves; what it returns, or resolves with, is `state` at the next node. The last function set counts. */
  onExport(save: () => Json | undefined | Promise<Json | undefined>): void
  /** The client gets what is published to the channel, on whatever node the session is. */
  join(channel: string): void
  leave(channel: string): void
}

/** A request of an attached server. */
export interface SessionRequest extends IncomingMessage {
  readonly session: RequestSession
}

interface ClientInfo {
  origin: string
  secure: boolean
  req: IncomingMessage
}

/** As that of `ws`; it may also return a promise. */
export type VerifyClient =
  | ((info: ClientInfo) => boolean | Promise<boolean>)
  | ((info: ClientInfo, done: (verified: boolean, code?: number, message?: string) => void) => void)

export interface AttachmentOptions {
  readonly wss: WebSocketServerLike
  readonly verifyClient: VerifyClient | null
  readonly maxBufferedBytes: number
  readonly sequential: boolean
  warn(message: string): void
  error(message: string): void
}

/** What is saved: the application's state, and whether the client has passed `verifyClient`. */
type Saved = { state?: Json; verified?: true }

interface Attached {
  readonly socket: SessionSocket
  save: (() => Json | undefined | Promise<Json | undefined>) | null
  redelivered: boolean
}

/** The sessions of a node as connections of one `ws` server. */
export class Attachment implements SocketHost {
  readonly handlers: SessionHandlers<Saved>
  private readonly Socket: SessionSocketClass
  private readonly options: AttachmentOptions
  private readonly bySession = new Map<Session, Attached>()
  private readonly byId = new Map<string, Attached>()

  constructor(Socket: SessionSocketClass, options: AttachmentOptions) {
    this.Socket = Socket
    this.options = options
    this.handlers = {
      open: (session) => this.open(session),
      message: (session, data, { redelivered }) => {
        const attached = this.bySession.get(session as Session)
        if (attached === undefined) return
        attached.redelivered = redelivered
        return attached.socket.core.receive(data)
      },
      close: (session, reason) => this.close(session, reason),
    }
  }

  get maxBufferedBytes(): number {
    return this.options.maxBufferedBytes
  }

  get sequential(): boolean {
    return this.options.sequential
  }

  current(id: string): SocketCore | undefined {
    return this.byId.get(id)?.socket.core
  }

  warn(message: string): void {
    this.options.warn(message)
  }

  failed(session: Session, error: unknown): void {
    this.options.error(`a message listener of session ${session.id} failed: ${textOf(error)}`)
  }

  private open(session: Session<Saved>): void | Promise<void> {
    const request = handshakeRequest(session.meta, new HandshakeSocket(session.meta.address))
    // Applications put on the request what they learn here, so the next node asks too. But whoever has passed once has passed:
    // what a client has shown may have expired since.
    const decide = (passed: boolean) => {
      if (passed || session.state?.verified === true) this.connect(session, request)
      else session.close(CloseCode.policy, 'not verified')
    }
    const verified = this.verify(request)
    if (typeof verified === 'boolean') decide(verified)
    else return verified.then(decide)
  }

  private verify(req: IncomingMessage): boolean | Promise<boolean> {
    const { verifyClient } = this.options
    if (verifyClient === null) return true
    const info = { origin: req.headers.origin ?? '', secure: false, req }
    if (verifyClient.length < 2)
      return (verifyClient as (info: ClientInfo) => boolean | Promise<boolean>)(info)
    return new Promise((resolve) => verifyClient(info, (passed) => resolve(passed)))
  }

  private connect(session: Session<Saved>, request: IncomingMessage): void {
    if (!session.open) return
    const { wss, verifyClient } = this.options
    if (verifyClient !== null && session.state?.verified !== true)
      session.state = { ...session.state, verified: true }
    const { subprotocol } = session.meta
    const socket = new this.Socket(
      wss.options,
      subprotocol,
      session as Session,
      request.socket as unknown as HandshakeSocket,
      this,
    )
    const attached: Attached = { socket, save: null, redelivered: false }
    this.bySession.set(session as Session, attached)
    this.byId.set(session.id, attached)
    wss.clients?.add(socket)
    Object.assign(request, { session: requestSession(session, attached) })
    wss.emit('connection', socket, request)
  }

  private close(session: Session<Saved>, { code, reason, cause }: CloseReason): void | Promise<void> {
    const attached = this.bySession.get(session as Session)
    if (attached === undefined) return
    if (cause === 'migrated' && session.open) return this.handOver(session, attached)
    this.forget(session, attached)
    if (cause === 'migrated') attached.socket.core.ended(CloseCode.serviceRestart, 'migrated', false)
    else attached.socket.core.ended(code, reason, cause === 'node')
  }

  /** Everything that was sent leaves before the session does, and so does what the application saves. */
  private async handOver(session: Session<Saved>, attached: Attached): Promise<void> {
    const { socket } = attached
    await socket.core.quiet()
    try {
      if (attached.save !== null) setState(session, await attached.save())
    } catch (error) {
      this.options.error(
        `onExport of session ${session.id} failed, it moves with what was saved before: ${textOf(error)}`,
      )
    }
    this.forget(session, attached)
    if (session.open) socket.core.leave()
    else socket.core.ended(CloseCode.abnormal, '', false)
  }

  private forget(session: Session<Saved>, attached: Attached): void {
    const { wss } = this.options
    this.bySession.delete(session as Session)
    if (this.byId.get(session.id) === attached) this.byId.delete(session.id)
    wss.clients?.delete(attached.socket)
    finishClosing(wss)
  }
}

function setState(session: Session<Saved>, state: Json | undefined): void {
  const { state: _, ...others } = session.state ?? {}
  session.state = state === undefined ? others : { ...others, state }
}

function textOf(error: unknown): string {
  return String((error as Error)?.stack ?? error)
}

function requestSession(session: Session<Saved>, attached: Attached): RequestSession {
  return {
    id: session.id,
    recovered: session.recovered,
    get state() {
      return session.state?.state
    },
    set state(state) {
      setState(session, state)
    },
    get redelivered() {
      return attached.redelivered
    },
    onExport(save) {
      attached.save = save
    },
    join: (channel) => session.join(channel),
    leave: (channel) => session.leave(channel),
  }
}

/** `wss.close()` waits for all clients, but `ws` looks only when one of its own has gone. */
function finishClosing(wss: WebSocketServerLike): void {
  const server = wss as unknown as {
    _shouldEmitClose?: boolean
    _state?: number
    emit(event: 'close'): boolean
  }
  if (server._shouldEmitClose !== true || wss.clients?.size !== 0) return
  server._shouldEmitClose = false
  process.nextTick(() => {
    server._state = 2
    server.emit('close')
  })
}
