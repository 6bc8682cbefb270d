import type { IncomingMessage } from 'node:http'
import type { GatewayView, Operator } from '../gateway/operator.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import type { Call, Reply } from './router.ts'

/** Marks a call of another gateway, which is answered from what is here alone. */
const scopeHeader = 'x-evenkeel-scope'
/** For who asks what one gateway has, and not what others have. */
export const localScope = { [scopeHeader]: 'local' }
const timeoutMs = 2_000

/** The admin APIs of the cluster's other gateways. They share the admin token. */
export class Peers {
  private readonly operator: Operator
  private readonly adminToken: string | null

  constructor(operator: Operator, adminToken: string | null) {
    this.operator = operator
    this.adminToken = adminToken
  }

  /** In a stable order, this gateway first. */
  all(): GatewayView[] {
    return this.operator.gateways()
  }

  static isFromPeer(request: IncomingMessage): boolean {
    return request.headers[scopeHeader] === 'local'
  }

  /** Throws NOT_READY when the gateway does not answer. */
  async call(
    gateway: GatewayView,
    method: string,
    path: string,
    body?: unknown,
  ): Promise<{ status: number; body: unknown }> {
    const url = new URL(`/api/v1${path}`, gateway.internalUrl.replace(/^ws/, 'http'))
    try {
      const response = await fetch(url, {
        method,
        headers: {
          [scopeHeader]: 'local',
          ...(this.adminToken === null ? {} : { authorization: `Bearer ${this.adminToken}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        // A redirect would carry the token to wherever it points.
        redirect: 'error',
        signal: AbortSignal.timeout(timeoutMs),
      })
      return { status: response.status, body: response.status === 204 ? undefined : await response.json() }
    } catch (error) {
      throw new EvenkeelError('NOT_READY', `gateway ${gateway.id} does not answer; try again`, {
        cause: error,
      })
    }
  }

  /** Makes a handler answer at the gateway whose id is the first parameter. A gateway that nobody knows is the handler's error. */
  at<Body, Query>(
    handle: (call: Call<Body, Query>) => Reply,
  ): (call: Call<Body, Query>) => Reply | Promise<Reply> {
    return (call) => {
      const gateway = this.all().find(({ id }) => id === call.params[0])
      return gateway === undefined || gateway.self || Peers.isFromPeer(call.request)
        ? handle(call)
        : this.forward(call, gateway)
    }
  }

  /**
   * Makes a handler look at the other gateways for what is not found here. The first of them that knows answers; one that
   * does not answer counts as one that does not know.
   */
  anywhere<Body, Query>(
    handle: (call: Call<Body, Query>) => Reply,
  ): (call: Call<Body, Query>) => Promise<Reply> {
    return async (call) => {
      try {
        return handle(call)
      } catch (error) {
        if (!(error instanceof EvenkeelError) || error.code !== 'NOT_FOUND' || Peers.isFromPeer(call.request))
          throw error
        const asked = this.all().filter(({ self }) => !self)
        const answers = await Promise.allSettled(asked.map((gateway) => this.forward(call, gateway)))
        const known = answers.find((answer) => answer.status === 'fulfilled' && answer.value.status !== 404)
        if (known?.status !== 'fulfilled') throw error
        return known.value
      }
    }
  }

  private forward({ request, body }: Call, gateway: GatewayView): ReturnType<Peers['call']> {
    const { method = 'GET', url = '/' } = request
    return this.call(gateway, method, url.slice('/api/v1'.length), body)
  }
}
