import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { PassThrough } from 'node:stream'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { Turnstile } from '../../src/edge/turnstile.ts'
import { Turn } from '../../src/gateway/turn.ts'

test('who comes goes in after the turn that follows, in order, a turn each', async () => {
  let turn = 0
  const count = () => {
    turn++
    counting = setImmediate(count)
  }
  let counting = setImmediate(count)
  const turnstile = new Turnstile(new Turn())
  const entered: [name: string, turn: number][] = []
  const enter = async (name: string) => {
    await turnstile.enter()
    entered.push([name, turn])
  }
  await Promise.all(['a', 'b', 'c', 'd'].map(enter))
  expect(entered).toEqual([
    ['a', 2],
    ['b', 3],
    ['c', 4],
    ['d', 5],
  ])
  const later = turn
  await enter('e')
  expect(entered.at(-1)).toEqual(['e', later + 2])
  clearImmediate(counting)
})

test('who has gone is not opened', async () => {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  onTestFinished(() => server.close())
  await once(server, 'listening')
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`)
  const closed = once(client, 'close')
  const [ws] = (await once(server, 'connection')) as [WebSocket]
  const turnstile = new Turnstile(new Turn())
  let opened = false
  const entered = turnstile.enterUpgraded(ws, new PassThrough(), () => {
    opened = true
  })
  ws.terminate()
  await entered
  expect(opened).toBe(false)
  await closed
})
