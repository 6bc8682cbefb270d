import { describe, expect, test } from 'vitest'
import { frame, type TopView } from '../../src/cli/top/frame.ts'
import { firstState, press, type TopState } from '../../src/cli/top/state.ts'
import { fakeNode } from '../support/fake-operator.ts'

const nodes = [
  fakeNode('n10', { sessions: 5, share: 0.1, fairShare: 0.3 }),
  fakeNode('n9', { sessions: 9, share: 0.2, fairShare: 0.2 }),
  fakeNode('n1', { sessions: 36, share: 0.7, fairShare: 0.5 }),
]

function pressAll(keys: readonly string[]) {
  let state: TopState = firstState
  const actions = []
  for (const key of keys) {
    const next = press(state, key, nodes)
    state = next.state
    if (next.action !== null) actions.push(next.action)
  }
  return { state, actions }
}

describe('keys of top', () => {
  test.each<[string, string[], unknown[]]>([
    ['drain asks first', ['d', 'n'], []],
    ['drains the first node', ['d', 'y'], [{ do: 'drain', node: 'n1' }]],
    ['drains the selected one, in the order of numbers', ['down', 'd', '\r'], [{ do: 'drain', node: 'n9' }]],
    ['the last one is the end', ['j', 'j', 'j', 'j', 'j', 'a', 'y'], [{ do: 'activate', node: 'n10' }]],
    ['up again', ['down', 'down', 'down', 'up', 'd', 'y'], [{ do: 'drain', node: 'n9' }]],
    ['the farthest from its fair share first', ['s', 'd', 'y'], [{ do: 'drain', node: 'n10' }]],
    [
      'a weight is typed',
      ['w', '2', '.', '5', '5', '\u007f', '\r'],
      [{ do: 'weight', node: 'n1', weight: 2.5 }],
    ],
    ['no weight, no change', ['w', '\r'], []],
    ['0 is no weight', ['w', '0', '\r'], []],
    ['escape leaves the question', ['w', '3', 'escape', 'q'], [{ do: 'quit' }]],
    ['a plan is asked for', ['r'], [{ do: 'plan' }]],
    ['keys without a meaning', ['x', 'escape', '7'], []],
  ])('%s', (_name, keys, actions) => {
    expect(pressAll(keys).actions).toEqual(actions)
  })

  test('without a node there is nothing to select', () => {
    for (const key of ['d', 'a', 'w', 'down', 'up']) {
      expect(press(firstState, key, [])).toEqual({ state: firstState, action: null })
    }
  })
})

function viewOf(count: number): TopView {
  return {
    now: 1_700_000_060_000,
    url: 'http://127.0.0.1:8081',
    gateways: [
      { id: 'gw-1', state: 'active', internalUrl: '', startedAt: 1_700_000_000_000, self: true },
      { id: 'gw-2', state: 'draining', internalUrl: '', startedAt: 1_700_000_000_000, self: false },
    ],
    nodes: Array.from({ length: count }, (_, i) => fakeNode(`n${i}`)),
    operations: [],
    stats: {},
    events: ['an event'],
    message: 'done\u001b[2J',
  }
}

describe('the frame of top', () => {
  const textOf = (view: TopView, state: TopState, rows: number) =>
    frame(view, state, { columns: 100, rows }).map((line) => line.map(({ text }) => text).join(''))

  test('shows nodes, gateways, events, keys', () => {
    const lines = textOf(viewOf(2), firstState, 40)
    expect(lines.join('\n')).toContain('nodes 2 of 2   sessions 4')
    expect(lines.some((line) => line.startsWith(' gw-2') && line.includes('does not answer'))).toBe(true)
    expect(lines.some((line) => line.startsWith('▸n0'))).toBe(true)
    expect(lines.at(-1)).toContain('d drain')
    expect(lines.join('')).not.toContain('\u001b')
  })

  test('of many nodes those around the selected one are seen', () => {
    for (const selected of ['n0', 'n500', 'n999']) {
      const lines = textOf(viewOf(1_000), { ...firstState, selected }, 30)
      expect(lines.length).toBeLessThanOrEqual(30)
      expect(lines.some((line) => line.startsWith(`▸${selected} `))).toBe(true)
    }
  })

  test('a question takes the place of the keys', () => {
    const { state } = pressAll(['d'])
    expect(textOf(viewOf(1), state, 30).at(-1)).toBe(' Drain n1? Its 36 sessions move to other nodes. y or n')
  })
})
