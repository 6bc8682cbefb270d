/**
 * The demo's language model: the same prompt always gives the same text, on every node and in the page. So everybody can tell whether
 * a text that has come by way of killed nodes and lost connections is the right one, byte for byte.
 */

const subjects = [
  'The gateway',
  'A small boat',
  'Every packet',
  'The lighthouse keeper',
  'A patient queue',
  'The tide',
  'Some node',
]
const verbs = ['holds', 'carries', 'remembers', 'answers', 'outlives', 'follows', 'repairs']
const objects = [
  'the stream',
  'a quiet promise',
  'the last word',
  'its neighbour',
  'the open line',
  'a lost thread',
  'the whole story',
]
const asides = [
  'without a pause',
  'in order, each once',
  'while the network sleeps',
  'as if nothing had happened',
  'until the keel is even',
]
const marks = ['.', '.', ';', ' – ✓.', '!']

const sentences = 16
const sentencesPerParagraph = 4

/** The text for a prompt. */
export function tellStory(prompt: string): string {
  return storyTokens(prompt).join('')
}

/** The text as a model would make it: piece by piece. */
export function storyTokens(prompt: string): string[] {
  const random = randomOf(prompt)
  const pick = (list: readonly string[]) => list[Math.floor(random() * list.length)]!
  const tokens: string[] = []
  for (let i = 0; i < sentences; i++) {
    const sentence = `${pick(subjects)} ${pick(verbs)} ${pick(objects)} ${pick(asides)}${pick(marks)}`
    const end =
      i === sentences - 1 ? '' : i % sentencesPerParagraph === sentencesPerParagraph - 1 ? '\n\n' : ' '
    tokens.push(...(sentence + end).split(/(?<= )/))
  }
  return tokens
}

/** mulberry32, seeded by FNV-1a: numbers from 0 to below 1. */
function randomOf(seed: string): () => number {
  let state = 0x811c9dc5
  for (let i = 0; i < seed.length; i++) state = Math.imul(state ^ seed.charCodeAt(i), 0x01000193)
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
