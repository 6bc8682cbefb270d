import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Rooms } from '../../src/gateway/rooms.ts'
import type { Session } from '../../src/gateway/session.ts'

function someSessions(pool = 'p'): Session[] {
  return Array.from({ length: 5 }, () => ({ pool, members: new Map() }) as unknown as Session)
}

const room = fc.constantFrom<string | number>('a', 'b', 1, '1')
const step = fc.record({
  session: fc.nat(4),
  scope: fc.constantFrom('/', '/x'),
  what: fc.constantFrom('join', 'leave', 'end', 'leaveAll' as const),
  rooms: fc.array(room, { maxLength: 3 }),
})

test('audiences are unions without exceptions, as in a model of sets', () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 60 }),
      fc.array(room, { maxLength: 3 }),
      fc.array(room, { maxLength: 2 }),
      (steps, wanted, except) => {
        const rooms = new Rooms()
        const sessions = someSessions()
        const model = new Map<string, Set<string | number>>()
        for (const { session: index, scope, what, rooms: names } of steps) {
          const session = sessions[index]!
          const key = `${index} ${scope}`
          if (what === 'join') {
            expect(rooms.join(session, scope, names)).toEqual([])
            model.set(key, new Set([...(model.get(key) ?? []), ...names]))
          } else if (what === 'leave') {
            rooms.leave(session, scope, names)
            for (const name of names) model.get(key)?.delete(name)
          } else if (what === 'end') {
            rooms.end(session, scope)
            model.delete(key)
          } else {
            rooms.leaveAll(session)
            for (const one of ['/', '/x']) model.delete(`${index} ${one}`)
          }
        }
        for (const scope of ['/', '/x']) {
          const expected = sessions.filter((_, index) => {
            const mine = model.get(`${index} ${scope}`)
            if (mine === undefined || except.some((name) => mine.has(name))) return false
            return wanted.length === 0 || wanted.some((name) => mine.has(name))
          })
          const found = rooms.of('p', { scope, rooms: wanted, except })
          expect(new Set(found)).toEqual(new Set(expected))
          expect(found).toHaveLength(expected.length)
          expect(rooms.of('other', { scope, rooms: [], except: [] })).toEqual([])
        }
      },
    ),
  )
})

test('a member is in at most 4,096 rooms', () => {
  const [session] = someSessions()
  const rooms = new Rooms()
  const names = Array.from({ length: 4_097 }, (_, i) => i)
  expect(rooms.join(session!, '/', names)).toEqual([4_096])
  rooms.leave(session!, '/', [0])
  expect(rooms.join(session!, '/', [4_096])).toEqual([])
})
