import { rmSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import type { RunService } from '../../src/gateway/run-types.ts'
import { startTestGateway, type TestGateway } from '../support/in-process.ts'
import { type Child, kill, orExit, startChild } from '../support/processes.ts'
import { createRandom } from '../support/random.ts'
import { RedisServer } from '../support/redis.ts'
import { RunFollower } from '../support/run-follower.ts'
import { TestReader } from '../support/run-reader.ts'
import { type StoryPolicy, type StoryRequest, storyText } from '../support/run-story.ts'

const limits = {
  heartbeatMs: 200,
  suspectMs: 400,
  downMs: 800,
  leaseMs: 1_200,
  leaseRefreshMs: 300,
  runLeaseMs: 1_500,
  runLeaseRefreshMs: 300,
}
let producers = 0

async function startProducer(where: { gateway: string } | { redis: string }): Promise<Child> {
  const [name, value] = Object.entries(where)[0]!
  const child = startChild({
    name: 'producer',
    script: 'test/support/run-producer-process.ts',
    args: [`--id=p${++producers}`, `--${name}=${value}`],
    ipc: true,
  })
  onTestFinished(async () => {
    child.process.kill('SIGCONT')
    await kill(child)
  })
  await orExit(child, new Promise<void>((resolve) => child.process.once('message', () => resolve())))
  return child
}

async function startRedis(args: string[] = []): Promise<RedisServer> {
  const redis = await RedisServer.start(args)
  onTestFinished(() => redis.stop())
  return redis
}

/** A gateway in a process of its own, with the edge of `run-gateway-process.ts`. */
async function startGatewayProcess(redis: RedisServer, id: string): Promise<{ child: Child; port: number }> {
  const directory = await mkdtemp(path.join(tmpdir(), 'evenkeel-runs-'))
  const file = path.join(directory, 'gateway.json')
  writeFileSync(file, JSON.stringify({ limits }))
  const child = startChild({
    name: id,
    script: 'test/support/run-gateway-process.ts',
    args: [id, file, redis.url],
    ipc: true,
  })
  onTestFinished(async () => {
    await kill(child)
    rmSync(directory, { recursive: true })
  })
  const ready = new Promise<{ port: number }>((resolve) =>
    child.process.once('message', (ports) => resolve(ports as { port: number })),
  )
  return { child, port: (await orExit(child, ready)).port }
}

function startStory(runs: RunService, name: StoryPolicy, story: StoryRequest) {
  return runs.start({
    pool: 'default',
    name,
    requestJson: JSON.stringify(story),
    idempotencyKey: null,
    mode: 'durable',
  })
}

async function followStory(
  gateway: TestGateway,
  name: StoryPolicy,
  story: StoryRequest,
): Promise<TestReader & { run: string }> {
  const { run } = await startStory(gateway.runs, name, story)
  return Object.assign(await TestReader.open(gateway.runs, run), { run })
}

const nodesOf = (gateway: TestGateway) =>
  gateway.operator.nodes().filter(({ health, state }) => health === 'healthy' && state === 'active').length

const story = { seed: 7, tokens: 120, pauseMs: 10 }
const text = storyText(story)
/** Goes on while another producer is started. */
const long = { ...story, tokens: 700 }
const longText = storyText(long)

test('a producer is killed in the middle: each loss policy does what it says, and every other text is whole', async () => {
  const gateway = await startTestGateway({ limits })
  const first = await startProducer({ gateway: gateway.linkUrl })
  const policies = ['restart', 'continue', 'fail', 'auto'] as const
  const readers = []
  for (const policy of policies) readers.push(await followStory(gateway, policy, long))
  const [restart, continued, fail, auto] = readers
  for (const reader of readers) await reader.until(() => reader.text.length > 60)
  await startProducer({ gateway: gateway.linkUrl })
  await kill(first)
  for (const reader of [restart, continued, auto]) {
    expect(await reader!.ended()).toMatchObject({ type: 'end', reason: 'complete' })
    expect(reader!.text).toBe(longText)
  }
  expect(await fail!.ended()).toMatchObject({ type: 'fail', code: 'PRODUCER_LOST', retryable: true })
  expect(longText.startsWith(fail!.text)).toBe(true)
  const fences = (reader?: TestReader) => reader!.events.filter(({ type }) => type === 'fence')
  expect(fences(restart)).toMatchObject([{ epoch: 2, resume: 'restart', base: '0-0' }])
  expect(fences(continued)).toMatchObject([{ epoch: 2, resume: 'continue' }])
  expect(fences(continued)).not.toMatchObject([{ base: '0-0' }])
})

test('a producer that was stopped and returns changes nothing', async () => {
  const gateway = await startTestGateway({ limits })
  const first = await startProducer({ gateway: gateway.linkUrl })
  const reader = await followStory(gateway, 'restart', story)
  await reader.until(() => reader.text.length > 60)
  first.process.kill('SIGSTOP')
  await startProducer({ gateway: gateway.linkUrl })
  await reader.until(() => reader.events.some(({ type }) => type === 'fence'))
  first.process.kill('SIGCONT')
  expect(await reader.ended()).toMatchObject({ reason: 'complete' })
  expect(reader.text).toBe(text)
  const { offset } = await gateway.runs.status(reader.run)
  // It has come back, and had its say.
  await expect.poll(() => nodesOf(gateway), { timeout: 20_000 }).toBe(2)
  expect((await gateway.runs.status(reader.run)).offset).toBe(offset)
  expect((await TestReader.open(gateway.runs, reader.run)).text).toBe(text)
})

test('a run is read, cancelled and resumed by way of another gateway', async () => {
  const redis = await startRedis()
  const [a, b] = [
    await startTestGateway({ limits, redis: redis.url }),
    await startTestGateway({ limits, redis: redis.url }),
  ]
  // Only one of the gateways has a producer.
  await startProducer({ gateway: a.linkUrl })
  const { run } = await startStory(b.runs, 'restart', story)
  const [here, there] = [await TestReader.open(a.runs, run), await TestReader.open(b.runs, run)]
  for (const reader of [here, there]) {
    expect(await reader.ended()).toMatchObject({ reason: 'complete' })
    expect(reader.text).toBe(text)
  }
  const middle = Math.floor(there.batches.length / 2)
  const { offset } = there.batches[middle]!.events.at(-1)!
  const known = await TestReader.open(a.runs, run, offset)
  await known.ended()
  expect(text.endsWith(known.text)).toBe(true)

  const cancelled = await startStory(a.runs, 'restart', { ...story, tokens: 100_000 })
  const reader = await TestReader.open(b.runs, cancelled.run)
  await reader.until(() => reader.text.length > 60)
  await b.runs.cancel(cancelled.run)
  expect(await reader.ended()).toEqual({ type: 'end', reason: 'cancelled' })
  await expect.poll(() => a.operator.runs.running).toBe(0)
})

test('a gateway is killed and the producer lives: the run goes on elsewhere, without a fence', async () => {
  const redis = await startRedis()
  const gateways = [await startGatewayProcess(redis, 'g1'), await startGatewayProcess(redis, 'g2')]
  await startProducer({ redis: redis.url })
  const random = createRandom(1)
  const ports = () => gateways.filter(({ child }) => child.running).map(({ port }) => port)
  const options = { ports, random, manner: 'eager', silenceMs: 5_000 } as const
  const followers = Array.from(
    { length: 8 },
    (_, i) => new RunFollower('fail', { ...story, tokens: 500, seed: i }, `key${i}`, options),
  )
  const ends = followers.map((follower) => follower.follow(new AbortController().signal))
  for (const follower of followers) while (follower.text.length < 60) await delay(20)
  await kill(gateways[0]!.child)
  await Promise.all(ends)
  for (const follower of followers) {
    expect(follower.terminal).toMatchObject({ type: 'end', reason: 'complete' })
    expect(follower.text).toBe(storyText(follower.request))
    expect(follower.events.filter(({ type }) => type === 'fence')).toEqual([])
  }
  expect(followers.some(({ connections }) => connections > 1)).toBe(true)
})

test('a gateway and its producer are killed together: another gateway takes the runs over when the lease ends', async () => {
  const redis = await startRedis()
  const first = await startGatewayProcess(redis, 'g1')
  const second = await startGatewayProcess(redis, 'g2')
  const producer = await startProducer({ redis: redis.url })
  const ports = () => [first.child.running ? first.port : second.port]
  const options = { ports, random: createRandom(1), manner: 'eager', silenceMs: 5_000 } as const
  const followers = (['restart', 'continue'] as const).map(
    (policy) => new RunFollower(policy, { ...story, tokens: 250 }, policy, options),
  )
  const ends = followers.map((follower) => follower.follow(new AbortController().signal))
  for (const follower of followers) while (follower.text.length < 60) await delay(20)
  await Promise.all([kill(first.child), kill(producer)])
  await startProducer({ redis: redis.url })
  await Promise.all(ends)
  for (const follower of followers) {
    expect(follower.terminal).toMatchObject({ type: 'end', reason: 'complete' })
    expect(follower.text).toBe(storyText(follower.request))
    expect(follower.events.filter(({ type }) => type === 'fence')).toHaveLength(1)
  }
})

test('Redis stops answering: producers wait, and nothing is lost or begun anew', async () => {
  const redis = await startRedis()
  const gateway = await startTestGateway({ limits: { ...limits, runLeaseMs: 20_000 }, redis: redis.url })
  await startProducer({ gateway: gateway.linkUrl })
  const reader = await followStory(gateway, 'fail', story)
  await reader.until(() => reader.text.length > 60)
  redis.pause()
  await delay(1_500)
  const before = reader.text.length
  await expect(startStory(gateway.runs, 'fail', story)).rejects.toMatchObject({ code: 'NOT_READY' })
  expect(reader.text.length).toBe(before)
  redis.resume()
  expect(await reader.ended()).toMatchObject({ reason: 'complete' })
  expect(reader.text).toBe(text)
})

test('Redis loses its data: a run that goes on is begun anew, one that waits is not forgotten', async () => {
  const redis = await startRedis()
  const gateway = await startTestGateway({ limits, redis: redis.url })
  const waiting = await followStory(gateway, 'restart', story)
  const producer = await startProducer({ gateway: gateway.linkUrl })
  await waiting.ended()
  const readers = []
  for (const policy of ['restart', 'continue', 'fail'] as const)
    readers.push(await followStory(gateway, policy, { ...story, tokens: 200 }))
  for (const reader of readers) await reader.until(() => reader.text.length > 60)
  const { run } = await gateway.runs.start({
    pool: 'elsewhere',
    name: 'restart',
    requestJson: JSON.stringify(story),
    idempotencyKey: null,
    mode: 'durable',
  })
  await redis.kill()
  await redis.restart()
  const whole = storyText({ ...story, tokens: 200 })
  for (const reader of readers.slice(0, 2)) {
    expect(await reader.ended()).toMatchObject({ reason: 'complete' })
    expect(reader.text).toBe(whole)
  }
  expect(await readers[2]!.ended()).toMatchObject({ type: 'fail', code: 'LOG_LOST' })
  await expect.poll(async () => (await gateway.runs.status(run)).status, { timeout: 10_000 }).toBe('queued')
  expect(producer.running).toBe(true)
})
