import type { Verdict } from './ledger.ts'

/** From the demo to the clients' process, once. */
export interface StartClients {
  /** Each client prefers one of them, in turn. */
  urls: string[]
  clients: number
}

/** From the clients' process to the demo, twice a second. */
export interface ClientsReport extends Verdict {
  connected: number
  sent: number
  answered: number
  /** Connections that closed. */
  closed: number
}
