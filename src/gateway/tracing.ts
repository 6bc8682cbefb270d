import type { SessionMeta } from '../protocol/link-records.ts'
import type { RunTrace, TraceContext } from '../protocol/trace-context.ts'
import type { MoveResult } from './migrator.ts'
import type { NodeEntry } from './node-entry.ts'
import type { AssignmentReason } from './operator.ts'
import type { Session } from './session.ts'

/** docs/tracing.md has a table of them. */
export type SpanName = `evenkeel.${'connect' | 'request' | 'llm' | 'assign' | 'migrate' | 'run'}`

export type SpanAttributes = Readonly<Record<string, string | number | boolean>>

export interface NewSpan {
  readonly name: SpanName
  readonly kind: 'server' | 'internal'
  /** null: it begins a trace. */
  readonly parent: TraceContext | null
  readonly link: TraceContext | null
  /** It began so many milliseconds ago. */
  readonly agoMs: number
  readonly attributes: SpanAttributes
}

/** Something that is timed. Nothing may be said of it once it has ended. */
export interface Span {
  /** For those who continue it. null: nobody traces. */
  readonly context: TraceContext | null
  rename(name: SpanName): void
  set(attributes: SpanAttributes): void
  event(name: string, agoMs?: number): void
  /** `isError`: it did not do what it was for, and not for a reason of its client's. */
  end(isError: boolean): void
}

/** What makes spans and brings them to where they are kept. No method may throw. */
export interface Tracer {
  start(span: NewSpan): Span
  /** Resolves when what has ended has been sent, or cannot be. */
  flush(): Promise<void>
}

/** What is known of a client's request when it is judged. Nothing in it says who the client is. */
export interface TracedRequest {
  readonly name: SpanName
  /** As the client has sent it. */
  readonly context: TraceContext | null
  readonly attributes: SpanAttributes
  /** Its span has ended. */
  over(): void
}

/** How a request went. */
export interface RequestEnd {
  readonly outcome: string
  readonly status: number | null
  /** Of an `EvenkeelError`. */
  readonly code?: string
}

export interface RequestSpan {
  /** null: what the client has sent is to be passed on as it is. */
  readonly context: TraceContext | null
  set(attributes: SpanAttributes): void
  /** The first end counts. */
  end(end: RequestEnd): void
}

export interface RunSpan {
  readonly context: TraceContext | null
  /** A producer has it now. */
  given(node: string): void
  lost(): void
  logged(tokens: number): void
  /** The first end counts. */
  end(outcome: string): void
}

/** What of a gateway's doings can be traced. None of it is asked for each message. */
export interface Tracing {
  /** False: nothing is, and nothing but this has to be looked at. */
  readonly isOn: boolean
  requested(request: TracedRequest): RequestSpan
  /** The client whose request had this meta gets this session. */
  sessionFor(meta: Pick<SessionMeta, 'headers'>, session: Session): void
  /** Its client has come back, and its node has it still. */
  reattached(session: Session): void
  assigned(
    session: Session,
    node: NodeEntry,
    reason: AssignmentReason,
    policy: string,
    waitedMs: number,
  ): void
  sessionEnded(session: Session): void
  moved(result: MoveResult): void
  /** This gateway holds the run from now on. null: nothing is to be said of it. */
  run(lane: string, epoch: number, trace: RunTrace | null, queuedMs: number): RunSpan | null
}

/** Traces nothing, and costs nothing. */
export const noTracing: Tracing = {
  isOn: false,
  requested: () => ({ context: null, set() {}, end() {} }),
  sessionFor() {},
  reattached() {},
  assigned() {},
  sessionEnded() {},
  moved() {},
  run: () => null,
}
