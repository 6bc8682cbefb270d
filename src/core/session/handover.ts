/**
 * The gateway's side of one migration as a table: make before break (PROTOCOL.md §1.8).
 * Before `moved` every failure leaves the session at its source, or, when the source is gone, carries it forward.
 */

export type HandoverPhase = 'preparing' | 'quiescing' | 'moved' | 'stayed'

export type HandoverEvent =
  | 'ready'
  | 'refused'
  | 'fin'
  | 'deadline'
  | 'source-lost'
  /** The source does not take the session: it was given it a moment ago, and has never had it. */
  | 'source-refused'
  | 'target-lost'
  | 'session-closed'
  | 'cancelled'
  /** The target cannot serve the session, and never has it. */
  | 'target-vetoed'
  /** The source cannot hand the session over, and waits to be told to go on. */
  | 'source-vetoed'

export type HandoverEffect =
  /** Ask the source to finish; client messages are kept from now on. */
  | 'quiesce-source'
  /** The hand-over is off; the source goes on. */
  | 'resume-source'
  | 'release-source'
  | 'release-target'
  /** The term rises; the target has the session with what the source committed in FIN. */
  | 'activate'
  /** The same with the last commit of a source that is gone; uncommitted messages are redelivered. */
  | 'activate-recovered'

export interface HandoverStep {
  readonly phase: HandoverPhase
  readonly effects: readonly HandoverEffect[]
}

const table: Record<'preparing' | 'quiescing', Partial<Record<HandoverEvent, HandoverStep>>> = {
  preparing: {
    ready: { phase: 'quiescing', effects: ['quiesce-source'] },
    refused: { phase: 'stayed', effects: [] },
    deadline: { phase: 'stayed', effects: ['release-target'] },
    'target-lost': { phase: 'stayed', effects: [] },
    'source-lost': { phase: 'moved', effects: ['activate-recovered'] },
    'source-refused': { phase: 'stayed', effects: ['release-target'] },
    'target-vetoed': { phase: 'stayed', effects: [] },
    'session-closed': { phase: 'stayed', effects: ['release-target'] },
    cancelled: { phase: 'stayed', effects: ['release-target'] },
  },
  quiescing: {
    // The target may have changed its mind while the source finishes: it is draining now, say.
    refused: { phase: 'stayed', effects: ['resume-source'] },
    fin: { phase: 'moved', effects: ['activate', 'release-source'] },
    deadline: { phase: 'stayed', effects: ['release-target', 'resume-source'] },
    'target-lost': { phase: 'stayed', effects: ['resume-source'] },
    'source-lost': { phase: 'moved', effects: ['activate-recovered'] },
    'source-refused': { phase: 'stayed', effects: ['release-target'] },
    'target-vetoed': { phase: 'stayed', effects: ['resume-source'] },
    'source-vetoed': { phase: 'stayed', effects: ['release-target', 'resume-source'] },
    'session-closed': { phase: 'stayed', effects: ['release-target', 'resume-source'] },
    cancelled: { phase: 'stayed', effects: ['release-target', 'resume-source'] },
  },
}

/** The step for an event, or null when the event means nothing in this phase. */
export function handoverStep(phase: HandoverPhase, event: HandoverEvent): HandoverStep | null {
  if (phase === 'moved' || phase === 'stayed') return null
  return table[phase][event] ?? null
}
