import { describe, expect, test } from 'vitest'
import type { GatewayRow } from '../../src/cli/demo/cluster.ts'
import { type DemoState, frame } from '../../src/cli/demo/view.ts'
import type { NodeRow } from '../../src/cli/terminal/node-table.ts'
import type { Line } from '../../src/cli/terminal/screen.ts'

const terminal = { columns: 80, rows: 24 }

function row(id: string, changes: Partial<NodeRow> = {}): NodeRow {
  return {
    id,
    weight: 1,
    state: 'active',
    health: 'healthy',
    sessions: 100,
    share: 0.5,
    fairShare: 0.5,
    messagesPerSecond: 200,
    ...changes,
  }
}

function gateway(id: string, port: number, changes: Partial<GatewayRow> = {}): GatewayRow {
  return {
    id,
    state: 'up',
    publicUrl: `http://127.0.0.1:${port}`,
    internalUrl: `http://127.0.0.1:${port + 1}`,
    sessions: 100,
    pid: 1,
    ...changes,
  }
}

function state(changes: Partial<DemoState> = {}): DemoState {
  return {
    now: 10_000,
    readyAt: 0,
    pageUrl: 'http://127.0.0.1:8080',
    redisUrl: null,
    gateways: [gateway('gateway-1', 8080)],
    nodes: [row('node-1'), row('node-2')],
    clientsWanted: 200,
    clients: { connected: 200, sent: 1, answered: 1, lost: 0, doubled: 0, reordered: 0, closed: 0 },
    migrations: 12_345,
    pauseMs: { p50: 0.5, p99: 12 },
    redelivered: 3,
    notes: [],
    keys: true,
    ...changes,
  }
}

function texts(lines: Line[]): string[] {
  return lines.map((line) => line.map(({ text }) => text).join(''))
}

const shown = (changes?: Partial<DemoState>, size = terminal) => texts(frame(state(changes), size))

describe('the table of the demo', () => {
  test('fits a terminal of 80 columns and 24 rows, however many nodes there are', () => {
    const note = { at: 0, text: 'node-1 is up' }
    for (const count of [1, 3, 10, 11, 64]) {
      const nodes = Array.from({ length: count }, (_, index) => row(`node-${index + 1}`))
      const lines = shown({ nodes, notes: Array.from({ length: 64 }, () => note) })
      expect(lines.length).toBeLessThanOrEqual(24)
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80)
      expect(lines.at(-1)).toContain('q quit')
      expect(lines.some((line) => line.includes('more'))).toBe(count > 10)
    }
  })

  test('has a line for each gateway where there are several', () => {
    const gateways = [
      gateway('gateway-1', 8080),
      gateway('gateway-2', 50_082, { state: 'down', sessions: 0 }),
    ]
    const nodes = Array.from({ length: 64 }, (_, index) => row(`node-${index + 1}`))
    const lines = shown({ gateways, nodes, redisUrl: 'redis://127.0.0.1:40000' })
    expect(lines[0]).toContain('page http://127.0.0.1:8080   redis://127.0.0.1:40000')
    expect(lines.filter((line) => line.startsWith(' gateway-'))).toEqual([
      ' gateway-1  http://127.0.0.1:8080    http://127.0.0.1:8081         100',
      ' gateway-2  http://127.0.0.1:50082   http://127.0.0.1:50083       down',
    ])
    expect(lines.length).toBeLessThanOrEqual(24)
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80)
  })

  test('hides nodes that are down before those that are live', () => {
    const down = { state: 'down', health: 'down', fairShare: 0, share: 0 } as const
    const nodes = Array.from({ length: 20 }, (_, index) => row(`node-${index + 1}`, index < 15 ? down : {}))
    const lines = shown({ nodes }).join('\n')
    expect(lines).toContain('node-16')
    expect(lines).toContain('… and 15 more')
  })

  test('marks in colour what the clients found wrong', () => {
    const clients = { ...state().clients, doubled: 2 }
    const spans = frame(state({ clients }), terminal).flat()
    expect(spans.find(({ text }) => text.includes('doubled 2'))?.colour).toBe('red')
    expect(spans.find(({ text }) => text.includes('lost 0'))?.colour).toBe('green')
  })

  test('draws the share against the fair share', () => {
    const nodes = [
      row('node-1', { share: 0.25, fairShare: 0.5 }),
      row('node-2', { share: 0.75, fairShare: 0.5 }),
    ]
    const [below, above] = shown({ nodes }).filter((line) => line.startsWith(' node-'))
    expect(below).toMatch(/ █+·+│·+ /)
    expect(above).toMatch(/ █+│█+ /)
  })

  test('says that it is starting, that there are no clients, and that there are no keys', () => {
    const lines = shown({ readyAt: null, nodes: [], clientsWanted: 0, pauseMs: null, keys: false })
    expect(lines[0]).toContain('starting…')
    expect(lines.join('\n')).toContain('connect yours to ws://127.0.0.1:8080/ws')
    expect(lines.at(-1)).toContain('Ctrl-C')
  })
})
