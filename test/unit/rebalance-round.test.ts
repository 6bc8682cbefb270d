import { expect, test } from 'vitest'
import type { Migrator } from '../../src/gateway/migrator.ts'
import type { NodeEntry } from '../../src/gateway/node-entry.ts'
import { Operations } from '../../src/gateway/operations.ts'
import { RebalanceRound } from '../../src/gateway/rebalance-round.ts'
import type { Session } from '../../src/gateway/session.ts'

const session = { move: null, closing: null, movable: true, inbox: { length: 0 } } as unknown as Session

function firstMove(source: Partial<NodeEntry>) {
  const state = { active: true, healthy: true, keepsSessions: false }
  const nodes: Record<string, unknown> = {
    a: { ...state, assigned: new Set([session]), ...source },
    b: { ...state, assigned: new Set() },
  }
  const operation = new Operations(() => {}).start('rebalance', 'default', 1)
  const round = new RebalanceRound([{ from: 'a', to: 'b', count: 1 }], operation, {
    migrator: { add() {}, remove() {} } as unknown as Migrator,
    node: (id) => nodes[id] as NodeEntry,
    ended() {},
  })
  return round.next()
}

test('a plan that comes from elsewhere takes nothing from a node that keeps its sessions', () => {
  expect(firstMove({})?.session).toBe(session)
  expect(firstMove({ keepsSessions: true })).toBeNull()
})
