import type { Link } from '../link/link.ts'
import type { NodeSession } from './session.ts'
import type { SessionOutput } from './session-output.ts'
import type { SessionHandlers } from './types.ts'

/** Where the records of a session go. */
export type RecordSink = Readonly<
  Pick<
    Link,
    'closed' | 'congested' | 'put' | 'putU32' | 'putJson' | 'putText' | 'putPayload' | 'putName' | 'putClose'
  >
>

/** Takes the records of sessions that have no link. */
export const nowhere: RecordSink = {
  closed: true,
  congested: false,
  put() {},
  putU32() {},
  putJson() {},
  putText: (_type, _flags, _session, _term, _value, payload) => Buffer.byteLength(payload),
  putPayload() {},
  putName() {},
  putClose() {},
}

/** What the sessions of one link share, and what sessions without a link need instead. */
export interface SessionHost {
  readonly link: RecordSink
  readonly handlers: SessionHandlers
  readonly atomic: boolean
  readonly messageBytes: number
  readonly stateBytes: number
  /** What a session may queue beyond its credit. */
  readonly queueBytes: number
  readonly lateOutputMs: number
  /** For how long a resumable session goes on without a link. */
  readonly resumeMs: number
  now(): number
  /** The session has something to commit at the end of this turn. */
  commitSoon(output: SessionOutput): void
  /** The session waits for the link or the client. */
  waitForDrain(session: NodeSession): void
  /** The session goes on, but not with this host. */
  letGo(session: NodeSession): void
  /** The session is over. */
  forget(session: NodeSession): void
  failed(session: NodeSession, error: unknown, where: string): void
}

/** Where a session is, and what it is called there. */
export interface Assignment {
  readonly host: SessionHost
  readonly number: number
  readonly term: number
}
