import type { IncomingMessage, ServerResponse } from 'node:http'
import { z } from 'zod'
import type { Operator, RebalanceResult } from '../gateway/operator.ts'
import type { NewUpstream } from '../gateway/upstream-directory.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { canaryRoutes } from './canary-routes.ts'
import { type ChannelPart, channelEverywhere } from './channel-members.ts'
import { type ConfigControl, configRoutes } from './config-api.ts'
import type { EventStreams } from './event-stream.ts'
import { Peers } from './peers.ts'
import { createRouter, route } from './router.ts'
import { sessionsEverywhere } from './session-pages.ts'
import type { Stats } from './stats.ts'

export const apiPrefix = '/api/v1'

const dayMs = 24 * 60 * 60 * 1000
const idText = z.string().min(1).max(255)
const noKeys = z.strictObject({})

const weightBody = z.strictObject({ weight: z.number().positive().max(1e6) })
const drainBody = z.strictObject({
  deadlineMs: z.int().min(1).max(dayMs).exactOptional(),
  /** 0: as fast as it goes. */
  ratePerSecond: z.int().min(0).max(1e6).exactOptional(),
})
const rebalanceBody = z.strictObject({ pool: idText.exactOptional(), dryRun: z.boolean().exactOptional() })
/** Bounds are the operator's, which names them. */
const publishBody = z.strictObject({ channel: z.string(), data: z.string() })
/** Rules that go beyond the type are the directory's, which names them. */
const upstreamBody = z.strictObject({
  pool: idText,
  url: z.string().min(1).max(512),
  weight: z.number().positive().max(1e6).exactOptional(),
  id: idText.exactOptional(),
})
const statsQuery = z.strictObject({ since: z.coerce.number().min(0).exactOptional() })
const migrateBody = z.strictObject({ to: idText })
const sessionsQuery = z.strictObject({
  node: idText.exactOptional(),
  cursor: z.string().min(1).max(1024).exactOptional(),
  limit: z.int().min(1).max(1000).exactOptional(),
  slow: z.boolean().exactOptional(),
})

/** Everything under `/api/v1`. Who may call is decided before. */
export function createApi(options: {
  operator: Operator
  events: EventStreams
  stats: Stats
  /** The other gateways of the cluster. */
  peers: Peers
  /** null: it cannot be looked at. */
  config: ConfigControl | null
  onError(error: unknown, request: IncomingMessage): void
}): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  const { operator, events, stats, peers, config, onError } = options
  const routes = [
    ...gatewayRoutes(operator, peers, stats),
    ...nodeRoutes(operator),
    ...upstreamRoutes(operator),
    ...sessionRoutes(operator, peers),
    ...channelRoutes(operator, peers),
    ...operationRoutes(operator, peers, events),
    ...(config === null ? [] : configRoutes(config, peers)),
    ...canaryRoutes(operator, peers),
  ]
  return createRouter({ prefix: apiPrefix, routes, onError })
}

function gatewayRoutes(operator: Operator, peers: Peers, stats: Stats) {
  return [
    route({ method: 'GET', path: '/gateways', handle: () => ok(operator.gateways()) }),
    route({
      method: 'POST',
      path: '/gateways/:id/drain',
      body: noKeys,
      handle: peers.at(({ params: [id = ''] }) => ({ status: 202, body: operator.drainGateway(id) })),
    }),
    route({
      method: 'GET',
      path: '/gateways/:id/stats',
      query: statsQuery,
      handle: peers.at(({ params: [id = ''], query }) => {
        if (id !== operator.gatewayId) throw new EvenkeelError('NOT_FOUND', `no gateway ${id}`)
        return ok(stats.since((query as { since?: number }).since ?? 0))
      }),
    }),
  ]
}

function nodeRoutes(operator: Operator) {
  return [
    route({ method: 'GET', path: '/nodes', handle: () => ok(operator.nodes()) }),
    route({ method: 'GET', path: '/nodes/:id', handle: ({ params: [id = ''] }) => ok(operator.node(id)) }),
    route({
      method: 'PATCH',
      path: '/nodes/:id',
      body: weightBody,
      handle: ({ params: [id = ''], body }) => ok(operator.setWeight(id, body.weight)),
    }),
    route({
      method: 'POST',
      path: '/nodes/:id/drain',
      body: drainBody,
      handle: ({ params: [id = ''], body }) => ({ status: 202, body: operator.drain(id, body) }),
    }),
    route({
      method: 'POST',
      path: '/nodes/:id/activate',
      body: noKeys,
      handle: ({ params: [id = ''] }) => ok(operator.activate(id)),
    }),
  ]
}

function upstreamRoutes(operator: Operator) {
  return [
    route({ method: 'GET', path: '/upstreams', handle: () => ok(operator.upstreams()) }),
    route({
      method: 'POST',
      path: '/upstreams',
      body: upstreamBody,
      handle: async ({ body }) => ({ status: 201, body: await operator.addUpstream(body as NewUpstream) }),
    }),
    route({
      method: 'DELETE',
      path: '/upstreams/:id',
      handle: async ({ params: [id = ''] }) => {
        await operator.removeUpstream(id)
        return { status: 204 }
      },
    }),
  ]
}

function sessionRoutes(operator: Operator, peers: Peers) {
  return [
    route({
      method: 'GET',
      path: '/sessions',
      query: sessionsQuery,
      handle: async ({ query, request }) =>
        ok(
          Peers.isFromPeer(request)
            ? operator.sessions(query)
            : await sessionsEverywhere(operator, peers, query),
        ),
    }),
    route({
      method: 'GET',
      path: '/sessions/:id',
      handle: peers.anywhere(({ params: [id = ''] }) => ok(operator.session(id))),
    }),
    route({
      method: 'POST',
      path: '/sessions/:id/migrate',
      body: migrateBody,
      handle: peers.anywhere(({ params: [id = ''], body }) => ({
        status: 202,
        body: operator.migrate(id, (body as { to: string }).to),
      })),
    }),
    route({
      method: 'DELETE',
      path: '/sessions/:id',
      handle: peers.anywhere(({ params: [id = ''] }) => {
        operator.closeSession(id)
        return { status: 204 }
      }),
    }),
  ]
}

function channelRoutes(operator: Operator, peers: Peers) {
  return [
    route({
      method: 'GET',
      path: '/channels/:name',
      handle: async ({ params: [name = ''], request }) => {
        if (!Peers.isFromPeer(request)) return ok(await channelEverywhere(operator, peers, name))
        const part: ChannelPart = { channel: name, members: operator.channelMembers(name) }
        return ok(part)
      },
    }),
    route({
      method: 'POST',
      path: '/publish',
      body: publishBody,
      handle: async ({ body }) => ok(await operator.publish(body.channel, body.data)),
    }),
  ]
}

function operationRoutes(operator: Operator, peers: Peers, events: EventStreams) {
  return [
    route({
      method: 'POST',
      path: '/rebalance',
      body: rebalanceBody,
      handle: ({ body }) => ok(rebalanceAnswer(operator.rebalance(body))),
    }),
    route({ method: 'GET', path: '/operations', handle: () => ok(operator.operations()) }),
    route({
      method: 'GET',
      path: '/operations/:id',
      handle: peers.anywhere(({ params: [id = ''] }) => ok(operator.operation(id))),
    }),
    route({
      method: 'GET',
      path: '/events',
      handle: ({ request, response }) => {
        if (request.method === 'HEAD') response.writeHead(200, { 'content-type': 'text/event-stream' }).end()
        else events.open(response)
        return null
      },
    }),
  ]
}

/** Callers with one pool, which are nearly all, get its plan without a wrapper. */
function rebalanceAnswer(plans: RebalanceResult[]): RebalanceResult | { plans: RebalanceResult[] } {
  const [first] = plans
  return first !== undefined && plans.length === 1 ? first : { plans }
}

function ok(body: unknown) {
  return { status: 200, body }
}
