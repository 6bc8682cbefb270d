import { expect, test } from 'vitest'
import { asHeard, hostileText } from '../support/hostile-text.ts'
import { startTestGateway, startTestNode } from '../support/in-process.ts'
import { createRandom, testSeed } from '../support/random.ts'
import { postTo, SseStream } from '../support/sse-stream.ts'

const seed = testSeed('sse-fuzz')
const count = 100_000

test('100,000 hostile messages through a gateway: each is one event, and none makes another one', async () => {
  const said = createRandom(seed)
  const texts = Array.from({ length: count }, () => hostileText(said))
  const gateway = await startTestGateway({ rebalance: { enabled: false } })
  await startTestNode(gateway, {
    async message(session) {
      for (const text of texts) if (!session.send(text)) await session.drained()
    },
  })
  const stream = await SseStream.open(gateway.httpUrl)
  await postTo(gateway.httpUrl, await stream.session(), 'go')
  await stream.until(() => stream.events.length > count, 'all events')
  const [first, ...events] = stream.events
  expect(first!.type).toBe('session')
  const wrong = events.flatMap(({ type, data, lastEventId }, i) => {
    const isRight = type === 'message' && data === asHeard(texts[i]!) && lastEventId.endsWith(`.${i + 1}`)
    return isRight ? [] : [{ type, data, lastEventId, text: texts[i] }]
  })
  expect(wrong.slice(0, 5)).toEqual([])
  expect(events).toHaveLength(count)
})
