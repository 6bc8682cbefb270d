import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { WebSocket } from 'ws'
import { connect } from '../../client/index.ts'
import { echo, startTestNode } from '../support/in-process.ts'
import { kill, orExit, startChild } from '../support/processes.ts'
import { postTo, SseStream } from '../support/sse-stream.ts'

interface Stall {
  ms: number
  everyMs: number
}

async function stallingGateway(config: object) {
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-overload-'))
  const file = path.join(directory, 'gateway.json')
  writeFileSync(file, JSON.stringify(config))
  const child = startChild({
    name: 'gateway',
    script: 'test/support/stalling-gateway-process.ts',
    args: [file],
    ipc: true,
  })
  onTestFinished(async () => {
    await kill(child)
    rmSync(directory, { recursive: true })
  })
  const [{ publicPort, internalPort }] = await orExit(child, once(child.process, 'message'))
  return {
    wsUrl: `ws://127.0.0.1:${publicPort}/ws`,
    httpUrl: `http://127.0.0.1:${publicPort}`,
    internalUrl: `http://127.0.0.1:${internalPort}`,
    linkUrl: `ws://127.0.0.1:${internalPort}`,
    stall: (stall: Stall) => void child.process.send(stall),
  }
}

type StallingGateway = Awaited<ReturnType<typeof stallingGateway>>

async function readiness({ httpUrl }: StallingGateway): Promise<string> {
  const response = await fetch(`${httpUrl}/readyz`, { headers: { connection: 'close' } })
  return `${response.status} ${((await response.json()) as { reasons: string[] }).reasons.join()}`
}

/** How the gateway answers a WebSocket of a new client. */
async function upgradeStatus({ wsUrl }: StallingGateway): Promise<IncomingMessage> {
  const ws = new WebSocket(wsUrl)
  ws.on('error', () => {})
  const [sent, response] = await once(ws, 'unexpected-response')
  sent.destroy()
  return response
}

test('a gateway whose event loop is late takes nothing new, keeps what it has, and recovers', {
  timeout: 60_000,
}, async () => {
  const gateway = await stallingGateway({ overload: { maxLagMs: 150, seconds: 1, recoverSeconds: 1 } })
  await startTestNode(gateway, echo)
  const old = new WebSocket(gateway.wsUrl)
  onTestFinished(() => old.terminate())
  await once(old, 'open')
  const stream = await SseStream.open(gateway.httpUrl)
  const known = await stream.session()
  const cut = await SseStream.open(gateway.httpUrl)
  await cut.session()
  cut.cut()
  const library = connect(gateway.wsUrl, { WebSocket: WebSocket as never })
  onTestFinished(() => library.close())
  await library.send('x')
  expect(await readiness(gateway)).toBe('200 ')

  gateway.stall({ ms: 250, everyMs: 300 })
  await expect.poll(() => readiness(gateway), { timeout: 20_000 }).toBe('503 overloaded: lag')
  // What is new …
  const refused = await upgradeStatus(gateway)
  expect([refused.statusCode, Number(refused.headers['retry-after'])]).toEqual([503, expect.any(Number)])
  const run = await fetch(`${gateway.httpUrl}/runs`, { method: 'POST', body: '{"name":"x","body":{}}' })
  expect([run.status, ((await run.json()) as { code: string }).code]).toEqual([503, 'OVERLOADED'])
  const ofSession = read(library.run('x', {}))
  await expect(ofSession).rejects.toMatchObject({ code: 'OVERLOADED', retryAfterMs: 5_000 })
  const states: number[] = []
  const client = connect(gateway.wsUrl, { WebSocket: WebSocket as never })
  onTestFinished(() => client.close())
  client.on('disconnect', ({ code }) => void states.push(code))
  await expect.poll(() => states, { timeout: 20_000 }).toContain(1013)
  // … what is there, and what comes back.
  old.send('still here')
  expect(String((await once(old, 'message'))[0])).toBe('still here')
  expect((await postTo(gateway.httpUrl, known, 'and I')).status).toBe(202)
  const resumed = await SseStream.open(gateway.httpUrl, { lastEventId: cut.events.at(-1)!.lastEventId })
  expect(await resumed.session()).toMatchObject({ recovered: true })
  expect(await ask(`${gateway.httpUrl}/healthz`)).toBe(200)
  const metrics = await (await fetch(`${gateway.internalUrl}/metrics`)).text()
  expect(metrics).toMatch(/^evenkeel_overload_state 1$/m)
  expect(metrics).toMatch(/^evenkeel_refused_total\{reason="overload"\} [3-9]\d*$/m)

  gateway.stall({ ms: 0, everyMs: 0 })
  await expect.poll(() => readiness(gateway), { timeout: 20_000 }).toBe('200 ')
  const fresh = new WebSocket(gateway.wsUrl)
  onTestFinished(() => fresh.terminate())
  await once(fresh, 'open')
})

test('at the worst, new connections are cut before they are answered', { timeout: 60_000 }, async () => {
  const gateway = await stallingGateway({ overload: { maxMemoryBytes: 1, seconds: 1 } })
  const cut = async () => {
    const sent = request(`${gateway.httpUrl}/healthz`, { agent: false }).end()
    const answer = await Promise.race([once(sent, 'response'), once(sent, 'error')]).catch((error: Error) => [
      error,
    ])
    return answer[0] instanceof Error ? (answer[0] as NodeJS.ErrnoException).code : 'answered'
  }
  await expect.poll(cut, { timeout: 20_000 }).toBe('ECONNRESET')
  // Balancers that ask by the internal listener are told.
  const ready = await fetch(`${gateway.internalUrl}/readyz`)
  expect([ready.status, await ready.json()]).toEqual([503, { ready: false, reasons: ['overloaded: memory'] }])
})

async function read(run: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of run);
}

async function ask(url: string): Promise<number> {
  const [response] = (await once(request(url, { agent: false }).end(), 'response')) as [IncomingMessage]
  response.resume()
  return response.statusCode!
}
