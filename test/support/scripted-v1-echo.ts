import {
  ClientFrame,
  type ClientHello,
  encodeClientWelcome,
  encodeCount,
  encodePayload,
  type Payload,
  parseClientHello,
  parseCount,
  payloadOf,
} from '../../src/protocol/client-frames.ts'
import { freshToken, freshWelcome, type ScriptedV1Server, type V1Peer } from './scripted-v1-server.ts'

/** Where the connection can be lost; each is named after what has just been done. */
export type Step =
  | 'accepted'
  | 'heard hello'
  | 'made a token'
  | 'sent welcome'
  | 'heard message'
  | 'kept message'
  | 'committed'
  | 'sent count'
  | 'sent output'
  | 'heard count'

/** `cut`: the connection is gone. `move`: the client is told to leave it; before a welcome that is `cut`, too. */
export type Fault = 'none' | 'cut' | 'move'

interface EchoSession {
  readonly id: string
  tokens: string[]
  peer: V1Peer
  ack: number
  /** What came behind `ack` and is not handled. */
  inbox: Payload[]
  /** Outputs behind `acknowledged`. */
  kept: Payload[]
  acknowledged: number
  /** The last output that was given to `peer`. */
  sent: number
}

export interface EchoOptions {
  /** Asked after each step. Default: never any. */
  fault?: (step: Step) => Fault
  /** A new connection comes to another gateway, which has only what the node has committed. Default false. */
  losesInbox?: boolean
}

/** Speaks `evenkeel.v1` as PROTOCOL.md §2.1 has it, in front of a node that echoes; with faults wherever the test wants them. */
export class EchoGateway {
  /** What the node has committed, in order. */
  readonly handled: string[] = []
  /** What the client must not have done. */
  readonly violations: string[] = []
  private readonly sessions = new Map<string, EchoSession>()
  private readonly fault: (step: Step) => Fault
  private readonly losesInbox: boolean

  constructor(server: ScriptedV1Server, { fault = () => 'none', losesInbox = false }: EchoOptions = {}) {
    this.fault = fault
    this.losesInbox = losesInbox
    server.onpeer = (peer) => this.accept(peer)
  }

  private accept(peer: V1Peer): void {
    peer.onframe = (frame) => {
      const hello = parseClientHello(frame as string)
      peer.onframe = () => this.violations.push('a frame before the welcome')
      if (this.goesOn(peer, 'heard hello')) this.greet(peer, hello)
    }
    this.goesOn(peer, 'accepted')
  }

  private greet(peer: V1Peer, { resume }: ClientHello): void {
    const session = resume === undefined ? this.create(peer) : this.sessions.get(resume.session)
    if (session === undefined) return void this.violations.push('a session that was never there')
    if (resume !== undefined && !session.tokens.includes(resume.token))
      return void this.violations.push('a token that is not valid')
    if (session.peer !== peer) this.take(session, peer)
    const token = freshToken()
    session.tokens = resume === undefined ? [token] : [token, resume.token]
    if (!this.goesOn(peer, 'made a token')) return
    const { id, ack, inbox } = session
    const out = resume?.out ?? 0
    const recovered = resume === undefined ? null : true
    const last = ack + inbox.length
    peer.onframe = (frame) => this.hear(session, frame)
    peer.send(encodeClientWelcome({ ...freshWelcome(), session: id, token, recovered, ack, last, out }))
    this.forget(session, out)
    session.sent = out
    if (this.goesOn(peer, 'sent welcome')) this.work(session)
  }

  private create(peer: V1Peer): EchoSession {
    const id = `session-${this.sessions.size + 1}`
    const session = { id, tokens: [], peer, ack: 0, inbox: [], kept: [], acknowledged: 0, sent: 0 }
    this.sessions.set(id, session)
    return session
  }

  private take(session: EchoSession, peer: V1Peer): void {
    session.peer.onframe = () => {}
    session.peer.close(4101, 'resumed elsewhere')
    session.peer = peer
    if (this.losesInbox) session.inbox = []
  }

  private hear(session: EchoSession, frame: Payload): void {
    session.tokens.length = 1
    const type = typeof frame === 'string' ? frame.charCodeAt(0) : frame[0]
    if (type === ClientFrame.message) {
      if (!this.goesOn(session.peer, 'heard message')) return
      session.inbox.push(payloadOf(frame))
      if (this.goesOn(session.peer, 'kept message')) this.work(session)
    } else if (type === ClientFrame.count) {
      this.forget(session, parseCount(frame as string))
      this.goesOn(session.peer, 'heard count')
    } else {
      this.violations.push(`a frame of type ${type}`)
    }
  }

  /** Has the node handle what waits, and tells the client of everything that it does not know. */
  private work(session: EchoSession): void {
    for (const data of session.inbox.splice(0)) {
      const text = Buffer.from(data as string).toString()
      this.handled.push(text)
      session.ack++
      const echo = typeof data === 'string' ? `echo ${text}` : Buffer.from(`echo ${text}`)
      session.kept.push(encodePayload(ClientFrame.message, echo))
    }
    if (!this.goesOn(session.peer, 'committed')) return
    session.peer.send(encodeCount(session.ack))
    if (!this.goesOn(session.peer, 'sent count')) return
    for (const frame of session.kept.slice(session.sent - session.acknowledged)) {
      session.peer.send(frame)
      session.sent++
      if (!this.goesOn(session.peer, 'sent output')) return
    }
  }

  private forget(session: EchoSession, out: number): void {
    const count = out - session.acknowledged
    if (count < 0 || count > session.kept.length) this.violations.push(`${out} outputs cannot be handled`)
    session.kept.splice(0, count)
    session.acknowledged = out
  }

  private goesOn(peer: V1Peer, step: Step): boolean {
    const fault = this.fault(step)
    if (fault === 'none') return true
    const isWelcome = step !== 'accepted' && step !== 'heard hello' && step !== 'made a token'
    if (fault === 'move' && isWelcome) peer.send('r')
    else peer.drop()
    peer.onframe = () => {}
    return false
  }
}
