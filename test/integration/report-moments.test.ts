import { once } from 'node:events'
import { expect, onTestFinished, test, vi } from 'vitest'
import { WebSocket } from 'ws'
import { reportEveryMs } from '../../src/core/balance/report-moments.ts'
import { echo, startTestGateway, startTestNode } from '../support/in-process.ts'

test('a node with two gateways says at the next common moment of the clock that its sessions have changed', async () => {
  const gateways = [await startTestGateway(), await startTestGateway()]
  await startTestNode(gateways[0]!, echo, { gateways: gateways.map(({ linkUrl }) => linkUrl) })
  await expect.poll(() => gateways.map(({ operator }) => operator.nodes().length)).toEqual([1, 1])
  const sinceMoment = 13
  vi.useFakeTimers({ toFake: ['Date'], now: 1_000 * reportEveryMs + sinceMoment })
  onTestFinished(() => void vi.useRealTimers())
  const timers = vi.spyOn(globalThis, 'setTimeout')
  onTestFinished(() => timers.mockRestore())
  const client = new WebSocket(gateways[0]!.wsUrl, { perMessageDeflate: false })
  onTestFinished(() => client.terminate())
  await once(client, 'open')
  client.send('there')
  await once(client, 'message')
  expect(timers.mock.calls.map(([, ms]) => ms)).toContain(reportEveryMs - sinceMoment)
  // The other gateway hears of it.
  await expect.poll(() => gateways[1]!.operator.nodes().map(({ sessions }) => sessions)).toEqual([1])
})
