import { createNode } from 'evenkeel/sdk'
import { onTestFinished } from 'vitest'
import type { StreamEvent } from './event-stream.ts'
import { asHeard, hostileText } from './hostile-text.ts'
import { startTestGateway, type TestGateway } from './in-process.ts'
import type { Random } from './random.ts'
import { SseStream } from './sse-stream.ts'

const outputs = 40
const quiet = { info() {}, warn() {}, error() {} }

interface CutWorld {
  /** Bytes of a stream that is not cut, from its first byte to the end of its last event. */
  readonly streamBytes: number
  /** Cuts a stream there, and again at a random place of what follows, until a client has everything. Returns what is wrong, or null. */
  cutAt(offset: number): Promise<string | null>
  /** Streams so far that were resumed. */
  readonly resumed: number
}

/** Two gateways and a node that says the same to every session. All end with the test. */
export async function startCutWorld(random: Random): Promise<CutWorld> {
  const said = Array.from({ length: outputs }, () => {
    const text = hostileText(random)
    return random.chance(0.2) ? Buffer.from(text) : text
  })
  const options = { rebalance: { enabled: false }, limits: { seekUnlinkedMs: 100 } }
  const gateways = [await startTestGateway(options), await startTestGateway(options)] as const
  const node = createNode({
    id: 'a',
    gateways: gateways.map(({ linkUrl }) => linkUrl),
    drainOnSigterm: false,
    logger: quiet,
  })
  node.serve({
    open(session) {
      for (const data of said) session.send(data)
      session.send('the end')
    },
  })
  onTestFinished(() => node.stop())
  await node.start()

  const expected = JSON.stringify([...said.map(heard), ['message', 'the end']])
  const whole = await SseStream.open(gateways[0].httpUrl)
  while ((await whole.next()).data !== 'the end');
  let resumed = 0

  async function cutAt(offset: number): Promise<string | null> {
    const events: StreamEvent[] = []
    const history: string[] = []
    let lastEventId = ''
    let cut = offset
    for (let attempt = 0; ; attempt++) {
      const gateway: TestGateway = gateways[random.int(0, 1)]!
      const stream = await SseStream.open(gateway.httpUrl, { lastEventId, cutAt: cut })
      await stream.until(() => stream.ended || stream.data().includes('the end'), `cut at ${offset}`)
      history.push(`${stream.bytes} bytes`)
      for (const event of stream.events) {
        if (event.type !== 'session') events.push(event)
        else if (lastEventId !== '' && (JSON.parse(event.data) as { recovered: boolean }).recovered) resumed++
      }
      lastEventId = stream.lastEventId === '' ? lastEventId : stream.lastEventId
      const isWhole = stream.data().includes('the end')
      stream.cut()
      if (isWhole) break
      cut = attempt === 0 ? random.int(0, whole.bytes) : Number.POSITIVE_INFINITY
    }
    const got = JSON.stringify(events.map(({ type, data }) => [type, data]))
    return got === expected ? null : `cut at ${offset} (${history.join(', ')}): ${got} is not ${expected}`
  }
  return {
    streamBytes: whole.bytes,
    cutAt,
    get resumed() {
      return resumed
    },
  }
}

function heard(data: string | Buffer): [type: string, data: string] {
  return typeof data === 'string' ? ['message', asHeard(data)] : ['binary', data.toString('base64')]
}

/** The same for `npm test` and the soak run: cuts at `count` different offsets. */
export async function cutEverywhere(
  count: number,
  random: Random,
): Promise<{ wrong: string[]; resumed: number }> {
  const world = await startCutWorld(random)
  const offsets = random.sample([...Array(world.streamBytes).keys()], count)
  console.log(`sse-cut: ${offsets.length} of ${world.streamBytes} offsets`)
  const wrong: string[] = []
  for (const offset of offsets) {
    const fault = await world.cutAt(offset)
    if (fault !== null) wrong.push(fault)
  }
  return { wrong, resumed: world.resumed }
}
