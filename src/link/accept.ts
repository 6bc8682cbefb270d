import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type RawData, WebSocketServer } from 'ws'
import { LinkCloseCode } from '../protocol/close-codes.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Limits } from '../protocol/limits.ts'
import {
  type Hello,
  linkProtocolVersion,
  linkSubprotocol,
  parseHello,
  RecordType,
  recordName,
  type Welcome,
} from '../protocol/link-records.ts'
import { FrameSocket } from './frame-socket.ts'
import { Link, type LinkHandlers } from './link.ts'
import { bearerToken, isSameSecret } from './token.ts'

export interface LinkAcceptorOptions {
  gatewayId: string
  /** Random for each process. */
  instance: string
  /** null: nodes need no token. */
  nodeToken: string | null
  limits: Readonly<Limits>
  now: () => number
  /** Calls back at the end of this event-loop turn. */
  atTurnEnd(step: () => void): void
  /**
   * A node introduced itself. Throws CONFLICT when its id is taken. `joined` is called once the node has been welcomed.
   */
  onNode(hello: Hello, link: Link): { handlers: LinkHandlers; joined(): void }
  /** A link was turned away or broke the protocol. */
  onRefused?(reason: string, address: string): void
}

/** The gateway's end: takes upgrades on `/link` of the internal listener and does the handshake of PROTOCOL.md §1.1. */
export function createLinkAcceptor(options: LinkAcceptorOptions) {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: true,
    perMessageDeflate: false,
    maxPayload: options.limits.linkMessageBytes,
    maxFragments: options.limits.messageFragments,
    handleProtocols: () => linkSubprotocol,
  })

  function upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const refusal = refuseUpgrade(request, options.nodeToken)
    if (refusal !== null) {
      options.onRefused?.(refusal.reason, request.socket.remoteAddress ?? '')
      socket.end(
        `HTTP/1.1 ${refusal.status} ${refusal.reason}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n\r\n` +
          JSON.stringify({
            type: 'about:blank',
            title: refusal.reason,
            status: refusal.status,
            code: refusal.code,
          }),
      )
      return
    }
    server.handleUpgrade(request, socket, head, (ws) => {
      const link = new Link(
        new FrameSocket(ws, socket as Socket, false),
        handshakeHandlers(options, () => link, request.socket.remoteAddress ?? ''),
        {
          role: 'gateway',
          highWaterBytes: options.limits.linkHighWaterBytes,
          now: options.now,
          atTurnEnd: options.atTurnEnd,
        },
      )
      socket.on('drain', () => link.checkCongestion())
      ws.on('message', (data: RawData, isBinary: boolean) => {
        if (isBinary) link.receive(data as Buffer)
        else link.close(LinkCloseCode.protocolError, 'a link message must be binary')
      })
      ws.on('close', (code, reason) => link.socketClosed(code, reason.toString()))
      ws.on('error', () => ws.terminate())
    })
  }

  return {
    upgrade,
    close(): void {
      for (const ws of server.clients) ws.close(LinkCloseCode.gatewayStopping, 'the gateway stops')
    },
    terminate(): void {
      for (const ws of server.clients) ws.terminate()
    },
  }
}

function handshakeHandlers(options: LinkAcceptorOptions, link: () => Link, address: string): LinkHandlers {
  const refuse = (code: number, reason: string) => {
    clearTimeout(timer)
    options.onRefused?.(reason, address)
    link().close(code, reason)
    link().handlers = { record() {}, close() {} }
  }
  const timer = setTimeout(
    () => refuse(LinkCloseCode.handshakeTimeout, 'no HELLO in time'),
    options.limits.handshakeMs,
  )
  return {
    record(type, _flags, _session, _term, batch, start, end) {
      if (type !== RecordType.hello) {
        refuse(LinkCloseCode.protocolError, `the first record must be HELLO, not ${recordName(type)}`)
        return
      }
      clearTimeout(timer)
      try {
        const hello = parseHello(batch.subarray(start, end))
        if (hello.protocol !== linkProtocolVersion) {
          refuse(
            LinkCloseCode.unsupportedVersion,
            `link protocol ${hello.protocol}: this gateway speaks ${linkProtocolVersion}`,
          )
          return
        }
        const { handlers, joined } = options.onNode(hello, link())
        link().putJson(RecordType.welcome, 0, 0, welcome(options))
        link().handlers = handlers
        joined()
      } catch (error) {
        if (!(error instanceof EvenkeelError)) throw error
        refuse(
          error.code === 'CONFLICT' ? LinkCloseCode.duplicateId : LinkCloseCode.protocolError,
          error.message,
        )
      }
    },
    close() {
      clearTimeout(timer)
    },
  }
}

function welcome({ gatewayId, instance, limits }: LinkAcceptorOptions): Welcome {
  const { messageBytes, stateBytes, clientBufferBytes, heartbeatMs, suspectMs, downMs } = limits
  return {
    protocol: linkProtocolVersion,
    gateway: gatewayId,
    instance,
    resumeMs: limits.resumeMs,
    limits: { messageBytes, stateBytes, clientBufferBytes },
    heartbeatMs,
    suspectMs,
    downMs,
  }
}

function refuseUpgrade(
  request: IncomingMessage,
  nodeToken: string | null,
): { status: number; reason: string; code: string } | null {
  if (nodeToken !== null && !isSameSecret(bearerToken(request.headers.authorization), nodeToken)) {
    return { status: 401, reason: 'Node token missing or wrong', code: 'UNAUTHORIZED' }
  }
  const offered = request.headers['sec-websocket-protocol']?.split(',').map((name) => name.trim()) ?? []
  if (!offered.includes(linkSubprotocol)) {
    return { status: 400, reason: `Offer the subprotocol ${linkSubprotocol}`, code: 'BAD_REQUEST' }
  }
  return null
}
