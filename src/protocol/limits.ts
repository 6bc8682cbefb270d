/** Every bound and time-out of the gateway, with its default. Units are the last word of a name. */
export interface Limits {
  /** Largest message in either direction; larger ones close the session with 1009. Also `maxPayload` of Engine.IO. */
  messageBytes: number
  /** Fragments of one WebSocket message, enough for one of 1 MiB in pieces of 4 KiB; more close the connection with 1008. */
  messageFragments: number
  /** Reads that one fragment may take to come; more close the connection with 1008. */
  messageChunks: number
  /** Pings of a WebSocket client; more of them within a second close its connection with 1008. */
  pingsPerSecond: number
  /** Packets in one request of a client of Engine.IO that polls; more end its session. */
  pollPackets: number
  /** What the gateway may hold for a client that reads slowly; the node's credit for one session. */
  clientBufferBytes: number
  /** What a session keeps for its node before the gateway stops reading the client: messages … */
  inboxMessages: number
  /** … or bytes, whichever comes first. */
  inboxBytes: number
  /** Largest saved session state, as JSON. */
  stateBytes: number
  /** Channels that one session may join. */
  channelsPerSession: number
  /** Request headers accepted from a client, by count … */
  headerCount: number
  /** … and by size. */
  headerBytes: number
  /** Requests that wait behind another one of the same connection; more close it. */
  pipelinedRequests: number
  /** A client or a node must finish its handshake within this time. */
  handshakeMs: number
  /** Requests that are open at once on one HTTP/2 connection. */
  http2Streams: number
  /** Requests that a client may break off at once on one HTTP/2 connection, and as many again in 10 s; then the connection is closed. */
  http2Resets: number
  /** An HTTP/2 connection on which nothing is asked is closed after this time. */
  http2IdleMs: number
  /** A WebSocket client is pinged after this much silence, an Engine.IO client this often (`pingInterval`) … */
  idlePingMs: number
  /** … and dropped when nothing came back for this long (`pingTimeout`). */
  idlePongMs: number
  /** A stream of Server-Sent Events gets a comment this often. */
  sseHeartbeatMs: number
  /** A migration's target must answer within this time. */
  prepareMs: number
  /** The source must finish the handler in flight within this time, or the session stays. */
  quiesceMs: number
  /** For how long late output of a session that moved is still delivered. */
  lateOutputMs: number
  /** A connected client is held this long when no node can take its session. */
  holdMs: number
  /** A new client waits this long for a node before it gets 503. 0: not at all. */
  waitForNodeMs: number
  /** A resumable session waits this long for its client, at its gateway or, without one, at its node. */
  resumeMs: number
  /** Clients that lost their gateway come back spread over this time. */
  resumeSpreadMs: number
  /** A gateway that looks for a session waits this long for the nodes' answers … */
  seekMs: number
  /** … and this long while nodes that it knows of are not linked yet. */
  seekUnlinkedMs: number
  /** Migrations in flight at once, per gateway. */
  migrationWindow: number
  /** Migrations started per second, per gateway. 0 lifts the budget. */
  migrationsPerSecond: number
  /** A gateway that leaves closes its clients spread over this time, so that they do not come back as one. */
  gatewayDrainMs: number
  /** A gateway that stops lets upstreams finish what they answer, token streams included, for this time after its clients have left. */
  answerDrainMs: number
  /** A drain that is not done by then is forced. */
  drainDeadlineMs: number
  /** A node that is down stays in the operator's list for this long. */
  downNodeMs: number
  /** Nodes that are down and still in that list; then the first ones go. */
  downNodes: number
  /** The largest batch of records in one link message. */
  linkMessageBytes: number
  /** Above this much unsent data on a link, sessions keep their messages for the node. */
  linkHighWaterBytes: number
  /** Heartbeat between gateway and node. */
  heartbeatMs: number
  /** A silent link is suspect: its node gets no new sessions. */
  suspectMs: number
  /** A silent link is down: its node's sessions are re-assigned. */
  downMs: number
  /** An upstream must take a connection, and answer a WebSocket's handshake, within this time. */
  upstreamDialMs: number
  /** An upstream must begin its answer to a request within this time. */
  upstreamReadMs: number
  /** A client that owes the rest of a request to an upstream, or does not take its answer, is dropped after this time. */
  clientStallMs: number
  /** Connections that are kept to one upstream for requests; requests beyond them wait for a free one. */
  upstreamConnections: number
  /** Who is in the cluster says so anew this often … */
  leaseRefreshMs: number
  /** … and is gone when nothing was heard of it for this long. */
  leaseMs: number
  /** Redis must connect, and answer a command, within this time. */
  redisCommandMs: number
  /** What one Redis server may owe an answer for; commands beyond it fail at once. */
  redisInFlightBytes: number
  /** Largest request of a run, as JSON. */
  runRequestBytes: number
  /** Largest event of a run, as JSON; longer texts are split. */
  runEventBytes: number
  /** What is appended to a run's log in one step, and read in one. */
  runEntryBytes: number
  /** What a producer keeps of a run until it is logged; then its handler waits. */
  runUnackedBytes: number
  /** A run's log; a run that grows beyond it fails. */
  runLogBytes: number
  /** All logs of runs in the memory of one gateway without Redis; then those that have ended are forgotten, the oldest first. */
  runMemoryBytes: number
  /** How long a log is kept behind the end of its run. */
  runTtlMs: number
  /** How long a log is kept of whose run nothing is heard. */
  runIdleMs: number
  /** How long an idempotency key names its run. */
  runKeyMs: number
  /** Above this many waiting runs of one pool and name, others get 429 … */
  runQueueDepth: number
  /** … and while one waits for longer than this. */
  runQueueAgeMs: number
  /** A run that no producer has taken by then fails. */
  runQueueMs: number
  /** A gateway's hold on a run that it has a producer for; afterwards another gateway takes it over … */
  runLeaseMs: number
  /** … unless it is renewed, this often. */
  runLeaseRefreshMs: number
  /** Producers that a run may lose. */
  runLossesMost: number
  /** Runs that a node makes at once of one name, unless it says otherwise. */
  runConcurrency: number
  /** A node that has lost all gateways goes on with a run for this long. */
  runDetachedMs: number
  /** What a reader may have unsent; then it keeps its place only. */
  runReaderBytes: number
  /** Runs that one client follows at once over one connection. */
  runStreams: number
  /** Deltas of this much time reach a reader as one; 0: each by itself. */
  runCoalesceMs: number
  /** A reader of a silent run that is alive gets a sign of it this often. */
  runHeartbeatMs: number
  /** A run of which nothing was heard for this long is read anew. */
  runSilenceMs: number
  /** What is passed on from a language model is logged in Redis this often, or at once for somebody who reads it at this gateway. */
  runRelayMs: number
  /** Largest request for a generation. */
  llmRequestBytes: number
  /** Largest event of a language model's stream. */
  llmEventBytes: number
  /** A language model must begin its answer within this time. */
  llmHeadMs: number
}

const KiB = 1024
const MiB = 1024 * KiB
const second = 1000

export const defaultLimits: Readonly<Limits> = {
  messageBytes: MiB,
  messageFragments: 300,
  messageChunks: 4096,
  pingsPerSecond: 10,
  pollPackets: 16_384,
  clientBufferBytes: MiB,
  inboxMessages: 256,
  inboxBytes: MiB,
  stateBytes: 64 * KiB,
  channelsPerSession: 128,
  headerCount: 100,
  headerBytes: 16 * KiB,
  pipelinedRequests: 16,
  handshakeMs: 10 * second,
  http2Streams: 256,
  http2Resets: 512,
  http2IdleMs: 120 * second,
  idlePingMs: 25 * second,
  idlePongMs: 20 * second,
  sseHeartbeatMs: 15 * second,
  prepareMs: 5 * second,
  quiesceMs: 5 * second,
  lateOutputMs: 5 * second,
  holdMs: 30 * second,
  waitForNodeMs: 0,
  resumeMs: 120 * second,
  resumeSpreadMs: 2 * second,
  seekMs: second,
  seekUnlinkedMs: 5 * second,
  migrationWindow: 64,
  migrationsPerSecond: 500,
  gatewayDrainMs: 10 * second,
  answerDrainMs: 60 * second,
  drainDeadlineMs: 300 * second,
  downNodeMs: 300 * second,
  downNodes: 1_000,
  linkMessageBytes: 8 * MiB,
  linkHighWaterBytes: 4 * MiB,
  heartbeatMs: 2 * second,
  suspectMs: 4 * second,
  downMs: 6 * second,
  upstreamDialMs: 5 * second,
  upstreamReadMs: 60 * second,
  clientStallMs: 60 * second,
  upstreamConnections: 1024,
  leaseRefreshMs: 2 * second,
  leaseMs: 6 * second,
  redisCommandMs: second,
  redisInFlightBytes: 8 * MiB,
  runRequestBytes: MiB,
  runEventBytes: 32 * KiB,
  runEntryBytes: 48 * KiB,
  runUnackedBytes: 256 * KiB,
  runLogBytes: 64 * MiB,
  runMemoryBytes: 512 * MiB,
  runTtlMs: 600 * second,
  runIdleMs: 3600 * second,
  runKeyMs: 3600 * second,
  runQueueDepth: 1_000,
  runQueueAgeMs: 30 * second,
  runQueueMs: 60 * second,
  runLeaseMs: 10 * second,
  runLeaseRefreshMs: 2.5 * second,
  runLossesMost: 20,
  runConcurrency: 32,
  runDetachedMs: 60 * second,
  runReaderBytes: 64 * KiB,
  runStreams: 32,
  runCoalesceMs: 0,
  runHeartbeatMs: 15 * second,
  runSilenceMs: second,
  runRelayMs: 200,
  llmRequestBytes: 32 * MiB,
  llmEventBytes: 4 * MiB,
  llmHeadMs: 600 * second,
}
