import { once } from 'node:events'
import type { CloseReason, SessionHandlers } from 'evenkeel/sdk'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { type GatewayChild, startGatewayChild } from '../support/gateway-child.ts'
import { startTestNode } from '../support/in-process.ts'

const KiB = 1024
const MiB = 1024 * KiB
const rebalance = { enabled: false }

async function connectClient(gateway: GatewayChild): Promise<WebSocket> {
  const ws = new WebSocket(gateway.wsUrl, { perMessageDeflate: false })
  onTestFinished(() => ws.terminate())
  await once(ws, 'open')
  return ws
}

/** A payload that begins with its number. */
function numbered(i: number, bytes: number): Buffer {
  const payload = Buffer.alloc(bytes, i)
  payload.writeUInt32LE(i)
  return payload
}

/** Resolves with the value once it is above 0 and has not changed for half a second: there is no event for nothing happening. */
async function standstill(value: () => number | Promise<number>): Promise<number> {
  let before = -1
  await expect
    .poll(
      async () => {
        const now = await value()
        const stands = now > 0 && now === before
        before = now
        return stands
      },
      { interval: 500, timeout: 20_000 },
    )
    .toBe(true)
  return before
}

async function residentBytes(gateway: GatewayChild): Promise<number> {
  return gateway.metric('evenkeel_process_resident_memory_bytes')
}

test('a client that does not read: its node waits, the gateway stays small, and nothing is lost', async () => {
  const gateway = await startGatewayChild({ rebalance })
  const chunkBytes = 64 * KiB
  const count = (64 * MiB) / chunkBytes
  let sent = 0
  let refused = 0
  await startTestNode(gateway, {
    async message(session) {
      while (sent < count) {
        if (session.send(numbered(sent++, chunkBytes))) continue
        refused++
        await session.drained()
      }
    },
  })
  const ws = await connectClient(gateway)
  const before = await residentBytes(gateway)
  ws.pause()
  ws.send('go')
  const sentWhilePaused = await standstill(() => sent)
  expect(refused).toBeGreaterThan(0)
  // What is missing is at the node: no buffer on the way is that large.
  expect(sentWhilePaused * chunkBytes).toBeLessThan(32 * MiB)
  expect((await residentBytes(gateway)) - before).toBeLessThan(32 * MiB)
  expect(await gateway.metric('evenkeel_backpressure_pauses_total')).toBeGreaterThan(0)

  let next = 0
  const all = Promise.withResolvers<void>()
  ws.on('message', (data: Buffer) => {
    if (data.length !== chunkBytes || data.readUInt32LE() !== next) all.reject(new Error(`not chunk ${next}`))
    if (++next === count) all.resolve()
  })
  ws.resume()
  await all.promise
  expect(sent).toBe(count)
  expect(ws.readyState).toBe(WebSocket.OPEN)
})

test('a node that sends on regardless: its session is closed with 4008, and others go on', async () => {
  const gateway = await startGatewayChild({ rebalance })
  const reasons: CloseReason[] = []
  const results: boolean[] = []
  const handlers: SessionHandlers = {
    message(session, data) {
      if (data === 'echo') session.send('echo')
      else for (let i = 0; i < 256; i++) results.push(session.send(numbered(i, 64 * KiB)))
    },
    close: (_session, reason) => void reasons.push(reason),
  }
  await startTestNode(gateway, handlers)
  const [slow, other] = [await connectClient(gateway), await connectClient(gateway)]
  slow.pause()
  slow.send('go')
  await expect.poll(() => reasons).toMatchObject([{ code: 4008, cause: 'node' }])
  expect(results[0]).toBe(true)
  expect(results.at(-1)).toBe(false)
  other.send('echo')
  await once(other, 'message')
  const got: number[] = []
  slow.on('message', (data: Buffer) => got.push(data.readUInt32LE()))
  slow.resume()
  expect((await once(slow, 'close'))[0]).toBe(4008)
  // What had left the node before it was too much arrives in order.
  expect(got).toEqual(got.map((_, i) => i))
  expect(got.length).toBeLessThan(256)
  expect((await gateway.admin.sessions()).length).toBe(1)
})

test('a client that floods a slow handler: the gateway stops reading it, keeps it, and loses nothing', async () => {
  // It is not read for longer than a silent client would be kept.
  const gateway = await startGatewayChild({ rebalance, limits: { idlePingMs: 1_000, idlePongMs: 1_000 } })
  const bytes = 4 * KiB
  // More than the kernel takes on a loopback connection that was read fast before: with some settings 36 MiB.
  const count = (64 * MiB) / bytes
  const handled: number[] = []
  const held = Promise.withResolvers<void>()
  await startTestNode(gateway, {
    async message(session, data) {
      await held.promise
      handled.push((data as Buffer).readUInt32LE())
      if (handled.length === count) session.send('done')
    },
  })
  const ws = await connectClient(gateway)
  const before = await residentBytes(gateway)
  for (let i = 0; i < count; i++) ws.send(numbered(i, bytes))
  const stuck = await standstill(() => ws.bufferedAmount)
  expect(stuck).toBeGreaterThan(0)
  const [session] = await gateway.admin.sessions()
  // 256 messages, and what one more read of the socket brings.
  expect(session!.uncommitted).toBeGreaterThanOrEqual(256)
  expect(session!.uncommitted).toBeLessThanOrEqual(256 + (64 * KiB) / bytes)
  expect((await residentBytes(gateway)) - before).toBeLessThan(32 * MiB)

  await new Promise((resolve) => setTimeout(resolve, 2_500))
  expect(ws.readyState).toBe(WebSocket.OPEN)
  expect(ws.bufferedAmount).toBe(stuck)
  expect(await gateway.admin.sessions()).toHaveLength(1)
  held.resolve()
  expect(String((await once(ws, 'message'))[0])).toBe('done')
  expect(handled).toEqual(Array.from({ length: count }, (_, i) => i))
})
