import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { expect, test } from 'vitest'
import { TunnelConnection } from '../../src/edge/tunnel-connection.ts'

test('an acknowledgement that is due after the end of the stream is not written', async () => {
  const response = new ServerResponse(new IncomingMessage(new Socket()))
  const errors: unknown[] = []
  response.on('error', (error) => errors.push(error))
  const due: (() => void)[] = []
  const options = { turn: { collect: (job: () => void) => due.push(job) }, runs: {}, onHello() {} }
  const connection = new TunnelConnection(response, options as never)
  connection.welcome({ last: 0, ack: 0 } as never)
  connection.acknowledge(1)
  connection.ended(1000, '')
  for (const job of due) job()
  await new Promise((resolve) => setImmediate(resolve))
  expect([due.length, errors]).toEqual([1, []])
})
