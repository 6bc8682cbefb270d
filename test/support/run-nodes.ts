import {
  createNode,
  type EvenkeelNode,
  type NodeOptions,
  type RunHandler,
  type RunOptions,
} from 'evenkeel/sdk'
import { onTestFinished } from 'vitest'
import type { TestGateway } from './in-process.ts'

const quiet = { info() {}, warn() {}, error() {} }

/** A real node in this process that only makes runs; it ends with the test. */
export async function startRunNode(
  gateways: readonly Pick<TestGateway, 'linkUrl'>[],
  runs: Record<string, RunHandler>,
  { onLoss, concurrency, ...options }: RunOptions & Partial<NodeOptions> = {},
): Promise<EvenkeelNode> {
  const node = createNode({
    id: 'p1',
    gateways: gateways.map(({ linkUrl }) => linkUrl),
    drainOnSigterm: false,
    logger: quiet,
    ...options,
  })
  for (const [name, handler] of Object.entries(runs))
    node.run(name, handler, { ...(onLoss && { onLoss }), ...(concurrency && { concurrency }) })
  onTestFinished(() => node.stop())
  await node.start()
  return node
}

/** What a handler that yields these words is read as. */
export const words = ['Once', ' upon', ' a', ' time', ',', ' \u2028\r\n\0', ' naïve 🙂.', '\n\ndata: x\n\n']
export const wholeText = words.join('')

export const tell: RunHandler = async function* () {
  for (const word of words) yield word
  return { tokens: words.length }
}

/** Yields `count` numbered words; waits behind each one that `gates` names. */
export function count(count: number, gates: Record<number, Promise<unknown>> = {}): RunHandler {
  return async function* () {
    for (let i = 0; i < count; i++) {
      yield `${i} `
      await gates[i]
    }
    return { tokens: count }
  }
}

export const numbers = (count: number) => Array.from({ length: count }, (_, index) => `${index} `).join('')
