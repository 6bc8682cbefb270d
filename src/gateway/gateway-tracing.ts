import type { SessionMeta } from '../protocol/link-records.ts'
import { type RunTrace, type TraceContext, traceContextOf } from '../protocol/trace-context.ts'
import type { MoveResult } from './migrator.ts'
import type { NodeEntry } from './node-entry.ts'
import type { AssignmentReason } from './operator.ts'
import type { Session } from './session.ts'
import type {
  NewSpan,
  RequestEnd,
  RequestSpan,
  RunSpan,
  Span,
  SpanAttributes,
  TracedRequest,
  Tracer,
  Tracing,
} from './tracing.ts'

/** `parent`: clients' requests go on in the traces that they name. `link`: they begin traces, which point there. */
export type ClientContext = 'parent' | 'link'

/** Moves that have failed for nobody's fault. */
const calledOff: ReadonlySet<string> = new Set(['cancelled', 'session-closed', 'vetoed'])

/**
 * Says what happens in spans. Sessions live for days and spans for moments: what happens to a session later begins a trace of its own,
 * which points to the request that the session began with. That one is known by the session's meta, which travels with it.
 */
export class GatewayTracing implements Tracing {
  readonly isOn = true
  private readonly tracer: Tracer
  private readonly clients: ClientContext
  /** Requests that have no session yet, by what was written into their headers. */
  private readonly requests = new Map<string, OpenRequest>()
  /** Those whose session has no node yet, by its id. */
  private readonly opening = new Map<string, OpenRequest>()

  constructor(tracer: Tracer, clients: ClientContext) {
    this.tracer = tracer
    this.clients = clients
  }

  requested({ name, context, attributes, over }: TracedRequest): RequestSpan {
    const [parent, link] = this.clients === 'parent' ? [context, null] : [null, context]
    const span = this.tracer.start({ name, kind: 'server', parent, link, agoMs: 0, attributes })
    const { traceparent } = span.context ?? {}
    // A tracer that does nothing gives back what the client has sent, which may be what others send.
    const isOwn = traceparent !== undefined && traceparent !== context?.traceparent
    const request = new OpenRequest(span, () => {
      over()
      if (isOwn) this.requests.delete(traceparent)
      if (request.session !== null && this.opening.get(request.session) === request)
        this.opening.delete(request.session)
    })
    if (isOwn) this.requests.set(traceparent, request)
    return request
  }

  sessionFor({ headers }: Pick<SessionMeta, 'headers'>, session: Session): void {
    const request = this.requests.get(headers.traceparent ?? '')
    if (request === undefined) return
    request.belongsTo(session.id)
    this.opening.set(session.id, request)
  }

  reattached(session: Session): void {
    this.opening.get(session.id)?.opened(session.node?.id ?? null, 'resumed')
  }

  assigned(
    session: Session,
    node: NodeEntry,
    reason: AssignmentReason,
    policy: string,
    waitedMs: number,
  ): void {
    // Migrations have spans of their own.
    if (reason !== 'opened' && reason !== 'recovered' && reason !== 'resumed') return
    const request = this.opening.get(session.id)
    const { id, pool, term } = session
    const span = this.tracer.start({
      name: 'evenkeel.assign',
      kind: 'internal',
      parent: request?.context ?? null,
      link: request === undefined ? originOf(session) : null,
      agoMs: waitedMs,
      attributes: {
        'evenkeel.session': id,
        'evenkeel.pool': pool,
        'evenkeel.node': node.id,
        'evenkeel.term': term,
        'evenkeel.reason': reason,
        'evenkeel.policy': policy,
      },
    })
    span.end(false)
    request?.opened(node.id, reason === 'resumed' ? 'resumed' : 'opened')
  }

  sessionEnded({ id }: Session): void {
    this.opening.get(id)?.end({ outcome: 'not-assigned', status: null })
  }

  moved({ session, from, to, reason, outcome, moved, pauseMs, held, tookMs }: MoveResult): void {
    const span = this.tracer.start({
      name: 'evenkeel.migrate',
      kind: 'internal',
      parent: null,
      link: originOf(session),
      agoMs: tookMs,
      attributes: {
        'evenkeel.session': session.id,
        'evenkeel.pool': session.pool,
        'evenkeel.from': from.id,
        'evenkeel.to': to.id,
        'evenkeel.reason': reason,
        'evenkeel.outcome': outcome,
        'evenkeel.term': session.term,
        'evenkeel.held_messages': held,
        ...(pauseMs === null ? {} : { 'evenkeel.pause_ms': pauseMs }),
      },
    })
    if (pauseMs !== null) span.event('evenkeel.quiesce', pauseMs)
    span.end(!moved && !calledOff.has(outcome))
  }

  run(lane: string, epoch: number, trace: RunTrace | null, queuedMs: number): RunSpan {
    const slash = lane.indexOf('/')
    const context = trace === null ? null : traceContextOf({ ...trace })
    const [parent, link] = trace?.isLink === true ? [null, context] : [context, null]
    const span: NewSpan = {
      name: 'evenkeel.run',
      kind: 'internal',
      parent,
      link,
      agoMs: queuedMs,
      attributes: {
        'evenkeel.pool': lane.slice(0, slash),
        'evenkeel.run.name': lane.slice(slash + 1),
        'evenkeel.run.epoch': epoch,
      },
    }
    return new OpenRun(this.tracer.start(span))
  }
}

/** Where the client's request is traced, as far as that is known. */
function originOf({ meta }: Session): TraceContext | null {
  if (!meta.includes('"traceparent"')) return null
  return traceContextOf((JSON.parse(meta) as SessionMeta).headers)
}

class OpenRequest implements RequestSpan {
  session: string | null = null
  private readonly span: Span
  private readonly over: () => void
  private ended = false

  constructor(span: Span, over: () => void) {
    this.span = span
    this.over = over
  }

  get context(): TraceContext | null {
    return this.span.context
  }

  belongsTo(session: string): void {
    this.session = session
    // Of an upstream it is known when it has answered that this is no ordinary request.
    this.span.rename('evenkeel.connect')
    this.span.set({ 'evenkeel.session': session })
  }

  set(attributes: SpanAttributes): void {
    if (!this.ended) this.span.set(attributes)
  }

  opened(node: string | null, outcome: 'opened' | 'resumed'): void {
    if (this.ended) return
    if (node !== null) this.span.set({ 'evenkeel.node': node })
    this.end({ outcome, status: null })
  }

  end({ outcome, status, code }: RequestEnd): void {
    if (this.ended) return
    this.ended = true
    this.over()
    this.span.set({
      'evenkeel.outcome': outcome,
      ...(status === null ? {} : { 'http.response.status_code': status }),
      ...(code === undefined ? {} : { 'error.type': code }),
    })
    this.span.end((status !== null && status >= 500) || outcome === 'not-assigned')
  }
}

class OpenRun implements RunSpan {
  private readonly span: Span
  private tokens = 0
  private ended = false

  constructor(span: Span) {
    this.span = span
  }

  get context(): TraceContext | null {
    return this.span.context
  }

  given(node: string): void {
    if (!this.ended) this.span.set({ 'evenkeel.producer': node })
  }

  lost(): void {
    if (!this.ended) this.span.event('evenkeel.producer_lost')
  }

  logged(tokens: number): void {
    if (this.tokens === 0 && tokens > 0 && !this.ended) this.span.event('evenkeel.first_token')
    this.tokens += tokens
  }

  end(outcome: string): void {
    if (this.ended) return
    this.ended = true
    this.span.set({ 'evenkeel.outcome': outcome, 'evenkeel.tokens': this.tokens })
    this.span.end(outcome === 'failed')
  }
}
