import type { PlacedRunEvent } from './run.ts'
import type { RunErrorCode } from './run-error.ts'
import type { SendOutcome } from './send-error.ts'
import type { ClientEvents, ClientState, RunOptions } from './types.ts'

/** What tabs and the one that has the connection say to each other. Structured clones. */

/** To the host. */
export type TabWord =
  /** The tab is there. It holds the lock of this name for as long as it lives. */
  | { readonly is: 'open'; readonly lock: string }
  | { readonly is: 'send'; readonly id: number; readonly data: string | Uint8Array }
  | {
      readonly is: 'run'
      readonly id: number
      /** null: a new run. */
      readonly run: string | null
      readonly after: string | null
      readonly name: string
      readonly body: unknown
      readonly options: RunOptions
    }
  | { readonly is: 'grant'; readonly id: number; readonly bytes: number }
  | { readonly is: 'cancel'; readonly id: number }
  | { readonly is: 'detach'; readonly id: number }
  | { readonly is: 'bye' }

/** To a tab. */
export type HostWord =
  | { readonly is: 'state'; readonly state: ClientState; readonly session: string | null }
  | {
      readonly [Event in keyof ClientEvents]: {
        readonly is: 'event'
        readonly event: Event
        readonly value: ClientEvents[Event]
      }
    }[keyof ClientEvents]
  | { readonly is: 'sent'; readonly id: number; readonly error: SharedSendError | null }
  | { readonly is: 'run-event'; readonly id: number; readonly event: PlacedRunEvent; readonly bytes: number }
  | { readonly is: 'run-end'; readonly id: number; readonly error: SharedRunError | null }

export interface SharedSendError {
  readonly code: 'BAD_REQUEST' | 'GONE' | 'TOO_LARGE' | 'TOO_MANY_REQUESTS'
  readonly message: string
  readonly outcome: SendOutcome
}

export interface SharedRunError {
  readonly code: RunErrorCode
  readonly message: string
  readonly retryable: boolean
  readonly retryAfterMs: number | null
}

/** One end of a way between a tab and the host. */
export interface Way<Out> {
  post(word: Out): void
}
