import type { NodeView } from '../../gateway/operator.ts'

/** What several gateways say of their nodes, as one list; each gateway knows best what it does itself. Pure. */
export function mergeNodes(views: readonly (readonly NodeView[])[]): NodeView[] {
  const byId = Map.groupBy(views.flat(), ({ id }) => id)
  const merged = [...byId.values()].map((said) => mergeNode(said, views.length))
  const totals = new Map<string, number>()
  for (const { pool, sessions } of merged) totals.set(pool, (totals.get(pool) ?? 0) + sessions)
  return merged.map((node) => ({ ...node, share: node.sessions / (totals.get(node.pool) || 1) }))
}

function mergeNode(said: readonly NodeView[], gateways: number): NodeView {
  const live = said.filter(({ health }) => health !== 'down')
  const best = live.find(({ state }) => state === 'draining') ?? live[0] ?? said[0]!
  const isWhole = live.length === gateways && live.every(({ health }) => health === 'healthy')
  return {
    ...best,
    health: live.length === 0 ? 'down' : isWhole ? 'healthy' : 'suspect',
    sessions: sum(said, ({ sessionsHere }) => sessionsHere),
    sessionsHere: sum(said, ({ sessionsHere }) => sessionsHere),
    sessionsByTransport: {
      websocket: sum(said, ({ sessionsByTransport }) => sessionsByTransport.websocket),
      sse: sum(said, ({ sessionsByTransport }) => sessionsByTransport.sse),
      'socket.io': sum(said, ({ sessionsByTransport }) => sessionsByTransport['socket.io']),
      'engine.io': sum(said, ({ sessionsByTransport }) => sessionsByTransport['engine.io']),
      tcp: sum(said, ({ sessionsByTransport }) => sessionsByTransport.tcp),
    },
    messagesPerSecond: sum(live, ({ messagesPerSecond }) => messagesPerSecond),
  }
}

function sum(views: readonly NodeView[], value: (view: NodeView) => number): number {
  return views.reduce((total, view) => total + value(view), 0)
}
