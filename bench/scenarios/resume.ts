import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FirstTokensResult } from '../load/commands.ts'
import { Load } from '../load/handle.ts'
import { exactRssKib } from '../measure/memory.ts'
import type { RunningGateway } from '../peers/evenkeel.ts'
import { type RunningRedis, startRedis } from '../peers/redis.ts'
import { startLlmGateway } from '../peers/streams/evenkeel.ts'
import { completionsPath, startTokenServer } from '../peers/streams/start.ts'
import { firstMessage, startNodeScript, stopChild } from '../processes.ts'
import { atLeast, atMost, type Goal } from '../report/goals.ts'
import { noRemarks, type Remarks } from '../report/remarks.ts'
import { figure, type Table } from '../report/table.ts'
import { checkOpened, type Report, type Scenario, type Settings } from './scenario.ts'

const head = 2_000
/** That a client has missed which comes back with its place. */
const missed = 100
/** Until then V8 compiles, in the gateway and in the load generator. */
const warmUps = 200
const readers = 250
const tokensPerSecond = 200
const slowReaders = 100
const slowBytes = 50_000_000
const slowPadBytes = 2_000

export const resume: Scenario = {
  name: 'resume',
  summary: `what it takes to resume streams of ${head} tokens, their producer alive and dead, and what readers of runs cost`,
  run,
}

const missedName = `last ${missed}`
const wholeName = 'all'

interface Resumed {
  readonly who: string
  readonly what: string
  readonly result: FirstTokensResult
}

async function run({ quick, progress }: Settings): Promise<Report> {
  const remarks = noRemarks()
  const load = await Load.start()
  const redis = await startRedis()
  const requests = quick ? 50 : 300
  progress('resume with evenkeel')
  const resumed = await resumeRuns(load, redis, requests)
  progress('resume with resumable-stream')
  resumed.push(...(await resumeWithLibrary(load, redis, requests)))
  for (const { who, what, result } of resumed)
    if (result.failed > 0)
      remarks.notes.push(`${who}, ${what}: ${result.failed} got no text: ${result.notes[0]}`)
  progress(`${readers} readers of one run`)
  const perSecond = await readersOfOne(load, quick ? 2_000 : 5_000, remarks)
  progress(`${slowReaders} readers that do not read`)
  const slowKib = await slow(remarks)
  await load.stop()
  await stopChild(redis.child)
  return {
    tables: [tableOf(resumed), costs(perSecond, slowKib)],
    goals: goalsOf(resumed, perSecond, slowKib),
    remarks,
    data: { resumed, perSecond, slowKib },
  }
}

/** Runs of two gateways with one Redis: made by way of the first, resumed at the second. */
async function resumeRuns(load: Load, redis: RunningRedis, requests: number): Promise<Resumed[]> {
  const server = await startTokenServer()
  const [first, second] = [
    await startLlmGateway(server.port, 0, ['--redis', redis.url]),
    await startLlmGateway(server.port, 0, ['--redis', redis.url]),
  ]
  const { run } = await begin(first, { tokens: 0, head, intervalMs: 1_000 })
  const whole = `/runs/${run}/events`
  const paths = { [missedName]: `${whole}?after=1-${head - missed}`, [wholeName]: whole }
  const resumed = await measure(load, 'evenkeel, producer alive', second.port, paths, requests)
  await stopChild(server.child)
  await stopChild(first.child)
  resumed.push(
    ...(await measure(load, 'evenkeel, producer and its gateway dead', second.port, paths, requests)),
  )
  await stopChild(second.child)
  return resumed
}

async function resumeWithLibrary(load: Load, redis: RunningRedis, requests: number): Promise<Resumed[]> {
  const start = async (name: string) => {
    const script = new URL('../apps/resumable-server.ts', import.meta.url)
    const child = startNodeScript(name, script, [redis.url])
    return { child, ...(await firstMessage<{ port: number }>(child)) }
  }
  const [maker, other] = [await start('resumable-1'), await start('resumable-2')]
  const response = await fetch(`http://127.0.0.1:${maker.port}/start?id=one&head=${head}`)
  const events = await read(response, head)
  // Its places are counts of characters.
  const from = events.slice(0, head - missed).join('').length
  const paths = { [missedName]: `/resume?id=one&from=${from}`, [wholeName]: '/resume?id=one' }
  const resumed = await measure(load, 'resumable-stream, producer alive', other.port, paths, requests)
  await stopChild(maker.child)
  resumed.push(...(await measure(load, 'resumable-stream, producer dead', other.port, paths, 5)))
  await stopChild(other.child)
  return resumed
}

async function measure(
  load: Load,
  who: string,
  port: number,
  paths: Record<string, string>,
  requests: number,
): Promise<Resumed[]> {
  const resumed: Resumed[] = []
  for (const [what, path] of Object.entries(paths)) {
    const at = { port, path, upTo: head - 1 }
    await load.call('resumes', { ...at, requests: Math.min(warmUps, requests) })
    resumed.push({ who, what, result: await load.call('resumes', { ...at, requests }) })
  }
  return resumed
}

/** Events per second of the gateway's CPU time: one run, many who follow it. */
async function readersOfOne(load: Load, windowMs: number, remarks: Remarks): Promise<number> {
  const server = await startTokenServer()
  const gateway = await startLlmGateway(server.port)
  const { run } = await begin(gateway, { tokens: 0, head: 1, intervalMs: 1_000 / tokensPerSecond })
  const path = `/runs/${run}/events`
  const opened = await load.call('stream', { port: gateway.port, path, body: null, connections: readers })
  checkOpened('readers', opened, remarks)
  const result = await load.call('tokens', { warmMs: 1_000, windowMs, watch: { gateway: gateway.pids } })
  await load.call('close', null)
  await stopChild(gateway.child)
  await stopChild(server.child)
  if (result.closed + result.wrong > 0)
    remarks.failures.push(
      `readers: ${result.closed} closed, ${result.wrong} wrong: ${result.notes.join('; ')}`,
    )
  return result.tokens / ((result.cpuNs.gateway ?? 0) / 1e9)
}

/** KiB of the gateway for each client that asks for a long run and reads nothing. */
async function slow(remarks: Remarks): Promise<number> {
  const server = await startTokenServer()
  const gateway = await startLlmGateway(server.port)
  const tokens = Math.ceil(slowBytes / slowPadBytes)
  const { run } = await begin(gateway, { tokens, head: tokens, padBytes: slowPadBytes })
  const ask = `GET /runs/${run}/events HTTP/1.1\r\nHost: bench\r\n\r\n`
  const open = async (count: number) => {
    const sockets: Socket[] = []
    for (let i = 0; i < count; i++) {
      const socket = connect({ host: '127.0.0.1', port: gateway.port })
      socket.pause()
      socket.write(ask)
      sockets.push(socket)
    }
    await sleep(3_000)
    return sockets
  }
  // Reading the log once costs memory that is not theirs.
  for (const socket of await open(5)) socket.destroy()
  await sleep(1_000)
  const before = exactRssKib(gateway.pids)
  const sockets = await open(slowReaders)
  const after = exactRssKib(gateway.pids)
  if (sockets.some(({ destroyed }) => destroyed)) remarks.failures.push('a slow reader was cut')
  for (const socket of sockets) socket.destroy()
  await stopChild(gateway.child)
  await stopChild(server.child)
  return Math.max(0, after - before) / slowReaders
}

/** Resolves when the first tokens, or all of them, have come. */
async function begin({ port }: RunningGateway, order: Record<string, number>): Promise<{ run: string }> {
  const response = await fetch(`http://127.0.0.1:${port}${completionsPath}`, {
    method: 'POST',
    headers: { 'x-run-mode': 'durable' },
    body: JSON.stringify({ model: 'bench', stream: true, ...order }),
  })
  const run = response.headers.get('x-run-id')
  if (run === null) throw new Error('the gateway logs no runs')
  await read(response, order.head ?? 1)
  // What has come is in the log a moment later.
  await sleep(1_000)
  return { run }
}

async function read(response: Response, tokens: number): Promise<string[]> {
  const seen: string[] = []
  let text = ''
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  while (seen.length < tokens) {
    const { value, done } = await reader.read()
    if (done) throw new Error('the stream has ended too early')
    text += value
    const events = text.split(/(?<=\n\n)/)
    text = events.at(-1)!.endsWith('\n\n') ? '' : events.pop()!
    seen.push(...events)
  }
  // It is left open, so that nobody is told that the client has gone.
  open.push(reader)
  return seen
}

const open: ReadableStreamDefaultReader[] = []

function tableOf(resumed: readonly Resumed[]): Table {
  const rows = resumed.map(({ who, what, result: { latencyUs, failed } }) => [
    who,
    what,
    figure(latencyUs.p50 / 1000),
    figure(latencyUs.p99 / 1000),
    figure(failed),
  ])
  return {
    title: `resume of ${head} tokens, at another process`,
    head: ['', 'tokens', 'p50 ms', 'p99 ms', 'without text'],
    rows,
  }
}

function costs(perSecond: number, slowKib: number): Table {
  return {
    title: 'readers of runs',
    head: ['', ''],
    rows: [
      [
        `events per CPU second, ${readers} readers of one run with ${tokensPerSecond} tokens/s`,
        figure(perSecond),
      ],
      [`KiB for each of ${slowReaders} that do not read a run of ${slowBytes / 1e6} MB`, figure(slowKib)],
    ],
  }
}

function goalsOf(resumed: readonly Resumed[], perSecond: number, slowKib: number): Goal[] {
  return [
    ...resumed
      .filter(({ who }) => who.startsWith('evenkeel'))
      .map(({ who, what, result }) =>
        atMost(`${who}: resume p99, ${what}`, result.latencyUs.p99 / 1000, 5, 'ms'),
      ),
    atLeast('events to readers per CPU second', perSecond, 100_000, ''),
    atMost('memory of a reader that does not read', slowKib, 128, 'KiB'),
  ]
}
