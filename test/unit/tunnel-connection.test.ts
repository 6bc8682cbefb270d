import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { expect, test } from 'vitest'
import { TunnelConnection } from '../../src/edge/tunnel-connection.ts'

function optionsFor(due: (() => void)[]): never {
  return { turn: { collect: (job: () => void) => due.push(job) }, runs: {}, onHello() {} } as never
}

test('an acknowledgement that is due after the end of the stream is not written', async () => {
  const response = new ServerResponse(new IncomingMessage(new Socket()))
  const errors: unknown[] = []
  response.on('error', (error) => errors.push(error))
  const due: (() => void)[] = []
  const connection = new TunnelConnection(response, optionsFor(due))
  connection.welcome({ last: 0, ack: 0 } as never)
  connection.acknowledge(1)
  connection.ended(1000, '')
  for (const job of due) job()
  await new Promise((resolve) => setImmediate(resolve))
  expect([due.length, errors]).toEqual([1, []])
})

test('who is held back may go on when the time is over, and not before', async () => {
  const response = new ServerResponse(new IncomingMessage(new Socket()))
  const connection = new TunnelConnection(response, optionsFor([]))
  const begun = performance.now()
  connection.holdBack(20)
  connection.holdBack(60)
  connection.holdBack(40)
  await connection.mayGoOn()
  expect(performance.now() - begun).toBeGreaterThanOrEqual(59)
  await connection.mayGoOn()
})
