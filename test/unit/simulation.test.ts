import { describe, expect, it, test } from 'vitest'
import { chart } from '../../src/cli/simulate/chart.ts'
import type { Balancing } from '../../src/core/simulation/cluster.ts'
import { eventAtS, scenarios, simulate, summarize } from '../../src/core/simulation/scenarios.ts'

const size = { nodes: 20, sessions: 4_000 }

function run(name: string, balancing: Partial<Balancing> = {}, seed = 1) {
  const scenario = scenarios.find((one) => one.name === name)!
  const all: Balancing = {
    policy: 'weighted-least-connections',
    rebalance: 'off',
    intervalS: 10,
    budget: 500,
    slowStartS: 0,
    ...balancing,
  }
  return simulate({ scenario, balancing: all, size, seconds: 90, seed })
}

describe('a simulated cluster', () => {
  it('is the same for the same seed, and another for another one', () => {
    const policy = 'random'
    expect(run('join', { policy })).toEqual(run('join', { policy }))
    expect(run('join', { policy }, 2)).not.toEqual(run('join', { policy }))
  })

  it('leaves new nodes idle without rebalancing, and evens them out with it', () => {
    const off = summarize(run('join'), 0.03, 'imbalance')
    const on = summarize(run('join', { rebalance: 'sessions' }), 0.03, 'imbalance')
    expect(off.evenAfterS).toBeNull()
    expect(off.moves).toBe(0)
    expect(on.evenAfterS).toBeLessThanOrEqual(12)
    // A fifth of the sessions belongs on the new nodes; nobody else has to move.
    expect(on.moves).toBeGreaterThan(size.sessions * 0.17)
    expect(on.moves).toBeLessThan(size.sessions * 0.21)
  })

  it('cuts clients off when a node goes, unless its sessions move', () => {
    expect(summarize(run('leave'), 0.03, 'imbalance').broken).toBeGreaterThan(300)
    expect(summarize(run('leave', { rebalance: 'sessions' }), 0.03, 'imbalance').broken).toBe(0)
  })

  it('spreads hot clients by their messages only when asked to', () => {
    const bySessions = summarize(run('hot', { rebalance: 'sessions' }), 0.15, 'trafficImbalance')
    const byTraffic = summarize(run('hot', { rebalance: 'traffic' }), 0.15, 'trafficImbalance')
    expect(bySessions.finalTrafficImbalance).toBeGreaterThan(0.5)
    expect(byTraffic.finalTrafficImbalance).toBeLessThanOrEqual(0.2)
    expect(byTraffic.moves).toBeLessThan(100)
  })

  it('does not oscillate: nothing moves in an even cluster', () => {
    for (const rebalance of ['sessions', 'traffic'] as const) {
      const quiet = run('slow', { rebalance }).slice(eventAtS)
      expect(quiet.reduce((sum, { moves }) => sum + moves, 0)).toBeLessThan(size.sessions * 0.02)
    }
  })

  it('gives slow nodes less by response time, and no policy that counts can see them', () => {
    const counting = summarize(run('slow'), 0.03, 'imbalance')
    const measuring = summarize(run('slow', { policy: 'least-response-time' }), 0.03, 'imbalance')
    expect(measuring.finalLatencyMs).toBeLessThan(counting.finalLatencyMs / 10)
  })

  it('fills a new node slowly when it is told to', () => {
    const at = (slowStartS: number) => run('join', { slowStartS, rebalance: 'sessions' })[eventAtS + 20]!
    expect(at(0).imbalance).toBeLessThan(at(60).imbalance)
  })
})

test('a chart is well-formed, and text in it is escaped', () => {
  const series = [{ name: 'a <b> & "c"', values: [1, 2, 10] }]
  const svg = chart('x < y', [{ title: 't', unit: 'ms', logarithmic: true, series }])
  expect(svg).toContain('x &#60; y')
  expect(svg).toContain('a &#60;b&#62; &#38; &#34;c&#34;')
  expect(svg.match(/<polyline/g)).toHaveLength(1)
  expect(svg).not.toMatch(/NaN|Infinity/)
})
