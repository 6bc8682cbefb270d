import { expect, test } from 'vitest'
import { runRedisOutage } from '../support/chaos-redis.ts'
import { testSeed } from '../support/random.ts'
import { noRoomFaults } from '../support/resumable-room.ts'
import { nothingWrong } from '../support/resumable-scene.ts'

const seed = testSeed('redis-stopped')
// A run that goes wrong is to end with its verdict, not with a time-out.
const timeoutMs = 90_000

test.each(['stopped', 'killed'] as const)(
  'Redis is %s for 4 s: sessions go on, /readyz names it, and it heals by itself',
  async (how) => {
    const { clients, newcomers, away, rounds, healedMs } = await runRedisOutage({
      seed,
      how,
      awayMs: 4_000,
      clients: 30,
    })
    console.log(`redis-stopped: ${how}, healed after ${Math.round(healedMs)} ms`)
    expect(clients).toMatchObject({
      ...nothingWrong,
      open: 30,
      resumes: 0,
      disconnects: {},
      rooms: noRoomFaults,
    })
    expect(clients.committed).toBe(clients.sent)
    if (how === 'stopped') expect(clients.rooms.gaps).toBe(0)
    expect(newcomers).toMatchObject({ ...nothingWrong, open: 2, resumes: 0, disconnects: {} })
    expect(rounds).toBeGreaterThan(0)
    for (const { status, ready, reasons } of away) {
      expect({ status, ready }).toEqual({ status: 200, ready: true })
      expect(reasons.join()).toMatch(/redis/i)
    }
    expect(healedMs).toBeLessThan(5_000)
  },
  timeoutMs,
)
