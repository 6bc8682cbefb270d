import { describe, expect, test } from 'vitest'
import { mergeNodes } from '../../src/cli/demo/merged-nodes.ts'
import type { NodeView } from '../../src/gateway/operator.ts'

/** What one gateway says of a node that it has given `here` sessions. */
function view(id: string, here: number, changes: Partial<NodeView> = {}): NodeView {
  return {
    id,
    pool: 'default',
    weight: 1,
    state: 'active',
    health: 'healthy',
    sessions: 999,
    reportedSessions: 999,
    sessionsHere: here,
    sessionsByTransport: { websocket: here, sse: 0, 'socket.io': 0, 'engine.io': 0, tcp: 0 },
    maxSessions: null,
    share: 0.9,
    fairShare: 0.5,
    messagesPerSecond: here * 2,
    bytesPerSecond: 0,
    responseMs: null,
    load: null,
    linkRttMs: 1,
    host: 'host',
    pid: 1,
    connectedAt: 0,
    version: '',
    url: null,
    ...changes,
  }
}

describe('the nodes of several gateways as one list', () => {
  test('sessions and rates are those of all gateways together', () => {
    const merged = mergeNodes([
      [view('a', 10), view('b', 20)],
      [view('a', 5), view('b', 25)],
    ])
    expect(merged.map(({ id, sessions, messagesPerSecond }) => [id, sessions, messagesPerSecond])).toEqual([
      ['a', 15, 30],
      ['b', 45, 90],
    ])
    expect(merged.map(({ share }) => share)).toEqual([0.25, 0.75])
    expect(merged[1]!.sessionsByTransport.websocket).toBe(45)
  })

  test('shares are those of the pool', () => {
    const merged = mergeNodes([[view('a', 10), view('b', 5, { pool: 'other' })]])
    expect(merged.map(({ share }) => share)).toEqual([1, 1])
  })

  test('a node is healthy when every gateway has it and says so, and down when no gateway has it', () => {
    const down = { health: 'down', state: 'down' } as const
    const healthOf = (...views: NodeView[][]) => mergeNodes(views)[0]!.health
    expect(healthOf([view('a', 1)], [view('a', 1)])).toBe('healthy')
    expect(healthOf([view('a', 1)], [])).toBe('suspect')
    expect(healthOf([view('a', 1)], [view('a', 1, { health: 'suspect' })])).toBe('suspect')
    expect(healthOf([view('a', 1, down)], [view('a', 1)])).toBe('suspect')
    expect(healthOf([view('a', 1, down)], [view('a', 1, down)])).toBe('down')
  })

  test('a drain that one gateway has done goes on while another has sessions', () => {
    const [merged] = mergeNodes([[view('a', 0, { state: 'drained' })], [view('a', 3, { state: 'draining' })]])
    expect(merged).toMatchObject({ state: 'draining', sessions: 3 })
  })

  test('without sessions there are no shares', () => {
    expect(mergeNodes([[view('a', 0)]])[0]!.share).toBe(0)
  })
})
