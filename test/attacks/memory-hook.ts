/** Preloaded into a gateway: asked for it over its message channel, it collects garbage and says what it holds. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

export interface Held {
  rssKib: number
  /** Objects and buffers that are in use. */
  usedKib: number
}

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as (how: object) => void

process.on('message', async (message) => {
  if (message !== 'held') return
  // What a first collection lets go of frees more at the second.
  for (let i = 0; i < 2; i++) {
    collect({ type: 'major', execution: 'sync', flavor: 'last-resort' })
    await new Promise(setImmediate)
  }
  const { rss, heapUsed, external } = process.memoryUsage()
  process.send!({ rssKib: rss / 1024, usedKib: (heapUsed + external) / 1024 } satisfies Held)
})
