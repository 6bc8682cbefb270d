import { connect } from 'evenkeel/client'
import { expect, onTestFinished, test } from 'vitest'
import { startTestGateway, startTestNode } from '../support/in-process.ts'
import { connectClient, startSocketIoNode } from '../support/socket-io.ts'
import { authBy, issuerOf } from '../support/tokens.ts'

/** Clients whose token has ended, and who come back with another one. */

const quietly = { rebalance: { enabled: false } }

test('a Socket.IO client comes back with another one', async () => {
  const issuer = await issuerOf('HS256')
  const [overrides, tokens] = authBy(issuer, { skewMs: 0, from: ['query'] })
  const gateway = await startTestGateway({ ...quietly, ...overrides }, tokens)
  await startSocketIoNode([gateway], () => {}, { id: 'io-1' })
  const query = { access_token: await issuer.sign({}, 0.5) }
  const client = await connectClient(gateway, { query, reconnection: true, reconnectionDelay: 10 })
  client.io.opts.query = { access_token: await issuer.sign() }
  await expect.poll(() => client.idsSeen.length, { timeout: 5_000 }).toBe(2)
  expect(client.losses).toEqual(['transport close'])
})

test('evenkeel/client comes back to its session when it was too late, and tries again without a token', async () => {
  const issuer = await issuerOf('HS256')
  const [overrides, tokenFiles] = authBy(issuer, { skewMs: 0 })
  const gateway = await startTestGateway({ ...quietly, ...overrides }, tokenFiles)
  await startTestNode(gateway, {})
  const tokens = [issuer.sign({}, 0.8), Promise.reject(new Error('offline')), issuer.sign({}, 600)]
  const client = connect(gateway.wsUrl, {
    random: () => 0,
    token: () => {
      const next = tokens[0]!
      // What is asked for while the first one lives comes too late.
      if (tokens.length === 3 && used) return new Promise<string>(() => {})
      used = true
      return next
    },
  })
  tokens[1]!.catch(() => {})
  let used = false
  onTestFinished(() => client.close())
  const sessions: unknown[] = []
  const losses: number[] = []
  client.on('session', ({ recovered }) => void sessions.push(recovered))
  client.on('disconnect', ({ code }) => {
    losses.push(code)
    tokens.shift()
    used = false
  })
  await client.send('one')
  await expect.poll(() => sessions, { timeout: 8_000 }).toEqual([null, true])
  expect(losses).toEqual([4401, 4000])
})
