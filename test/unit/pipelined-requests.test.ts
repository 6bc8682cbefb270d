import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { whenItsTurn } from '../../src/edge/request-meta.ts'

test('behind one pipelined request too many nothing is parsed, however much came with it', async () => {
  const most = 8
  let requests = 0
  let begun = 0
  const server = createServer((_request, response) => {
    requests++
    whenItsTurn(response, most, () => begun++)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {})
  client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(1_000))
  await once(client, 'close')
  // The first one is answered meanwhile, `most` wait, and one is too many.
  expect([requests, begun]).toEqual([most + 2, 1])
})
