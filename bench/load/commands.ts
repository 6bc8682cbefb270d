import type { LatencySummary } from './histogram.ts'
import type { Dialect } from './wrappings.ts'

/** What the benchmark asks its load process, one command at a time. */
export interface Commands {
  open: { input: OpenOptions; output: OpenResult }
  closedLoop: { input: ClosedLoopOptions; output: LoadResult }
  openLoop: { input: OpenLoopOptions; output: LoadResult }
  /** Messages flow in the background until `stopOpenLoop`. */
  startOpenLoop: { input: { rate: number }; output: null }
  stopOpenLoop: { input: null; output: LoadResult }
  /** One more client: sends `request`, then does not read. */
  stall: { input: { port: number; path: string; request: string }; output: null }
  /** That client reads again for at most `forMs`, then leaves. */
  unstall: { input: { forMs: number }; output: StallResult }
  /** Clients that listen, in place of those of `open`. */
  subscribe: { input: SubscribeOptions; output: OpenResult }
  /** How many of them have not got message `sequence` within the time-out. */
  lacking: { input: { sequence: number; timeoutMs: number }; output: number }
  beginDeliveries: { input: null; output: null }
  endDeliveries: { input: null; output: DeliveryResult }
  /** Clients whose answers are endless streams of tokens, in place of those of `open`. */
  stream: { input: StreamsOptions; output: OpenResult }
  tokens: { input: Window; output: TokensResult & { cpuNs: Record<string, number> } }
  /** Requests with one token each, one after the other. */
  firstTokens: {
    input: Omit<StreamsOptions, 'connections'> & { requests: number; pauseMs: number }
    output: FirstTokensResult
  }
  /** Clients that come one after the other and read up to a token, each over a connection of its own. */
  resumes: {
    input: Omit<StreamsOptions, 'connections' | 'body'> & { requests: number; upTo: number }
    output: FirstTokensResult
  }
  close: { input: null; output: null }
}

export interface StreamsOptions {
  port: number
  path: string
  /** JSON that each client posts; null: it asks by GET. */
  body: string | null
  connections: number
}

export interface TokensResult {
  tokens: number
  closed: number
  /** Tokens twice, out of order or left out. */
  wrong: number
  notes: string[]
  /** From the server's write to the client's read. */
  latencyUs: LatencySummary
  generatorCpuNs: number
}

export interface FirstTokensResult {
  /** From the request to the token; of those that got none, to the end of their connection. */
  latencyUs: LatencySummary
  failed: number
  notes: string[]
}

export interface OpenOptions {
  port: number
  path: string
  connections: number
  payloadBytes: number
  /** Default `plain`. */
  dialect?: Dialect
}

export interface OpenResult {
  open: number
  failed: number
  seconds: number
  notes: string[]
}

/** Groups of processes whose CPU time is taken over the measured window. */
export type Watch = Record<string, number[]>

export interface Window {
  warmMs: number
  windowMs: number
  watch: Watch
}

export interface ClosedLoopOptions extends Window {
  outstanding: number
}

export interface OpenLoopOptions extends Window {
  /** Messages per second over all connections, evenly spaced. */
  rate: number
}

export interface LoadErrors {
  /** Connections that the server closed or that broke. */
  closed: number
  /** Echoes of another connection, out of order, or damaged. */
  wrong: number
  /** Messages whose echo had not come one second after the end. */
  missing: number
}

export interface LoadResult {
  messages: number
  seconds: number
  errors: LoadErrors
  notes: string[]
  latencyUs: LatencySummary
  /** CPU nanoseconds of each watched group within the window. */
  cpuNs: Record<string, number>
  generatorCpuNs: number
}

export interface SubscribeOptions {
  /** The clients are split evenly between them. */
  ports: readonly number[]
  path: string
  dialect: Dialect
  connections: number
}

export interface DeliveryResult {
  deliveries: number
  /** Reads from a socket that brought them. */
  reads: number
  closed: number
  /** Messages twice, out of order, left out, or damaged. */
  wrong: number
  notes: string[]
  /** From publishing to the client's read. */
  latencyUs: LatencySummary
  generatorCpuNs: number
}

export interface StallResult {
  receivedBytes: number
  /** The server ended the connection. */
  closedByServer: boolean
  closeCode: number | null
}

export type CommandName = keyof Commands

export interface CommandMessage<Name extends CommandName = CommandName> {
  id: number
  name: Name
  input: Commands[Name]['input']
}

export type ReplyMessage = { id: number; output: unknown } | { id: number; error: string }
