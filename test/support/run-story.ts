import type { EvenkeelNode, RunHandler } from 'evenkeel/sdk'
import { createRandom } from './random.ts'

/** A run whose text everybody can work out. */
export interface StoryRequest {
  seed: number
  tokens: number
  /** Between tokens, at most. */
  pauseMs: number
}

/** Names of runs, each with the loss policy of this name. */
export const storyPolicies = ['restart', 'continue', 'fail', 'auto'] as const
export type StoryPolicy = (typeof storyPolicies)[number]

const syllables = [
  'ka',
  'lo',
  ' mi',
  'ru',
  ' é',
  '🙂',
  '\n',
  ' "x"',
  '\u2028',
  'tho',
  ' ',
  '\\',
  '\r\n',
  'zz',
]

export function* storyTokens({ seed, tokens }: StoryRequest): Generator<string> {
  const random = createRandom(seed)
  for (let i = 0; i < tokens; i++) yield `${random.pick(syllables)}${random.int(0, 99)}`
}

export function storyText(request: StoryRequest): string {
  return [...storyTokens(request)].join('')
}

/** Makes the story, or what follows what was made of it. */
export const tellStory: RunHandler<StoryRequest> = async function* (request, { emitted, signal }) {
  let known = emitted.text.length
  const random = createRandom(request.seed + 1)
  for (const token of storyTokens(request)) {
    if (known > 0) {
      known -= token.length
      if (known < 0) throw new Error('what was emitted does not end with a token')
      continue
    }
    const pauseMs = request.pauseMs * random.next()
    if (pauseMs >= 1) await new Promise((resolve) => setTimeout(resolve, pauseMs))
    if (signal.aborted) return
    yield token
  }
}

export function tellStories(node: EvenkeelNode, concurrency: number): void {
  for (const name of storyPolicies)
    node.run(name, tellStory, { concurrency, ...(name === 'auto' ? {} : { onLoss: name }) })
}
