/** What the gateway has to know of a request for a generation. */
export interface GenerationRequest {
  /** The answer is asked for as a stream of events. */
  readonly streams: boolean
  /** Of the conversation; null: the request names none. */
  readonly chat: string | null
  /** What leads to the same server again; null: nothing does. */
  readonly key: string | null
}

/** Where the key is that leads to the same server: requests with the same one find their prompt's cache there. */
export type Affinity = { readonly header: string } | { readonly body: string }

export interface GenerationParts {
  /** By its name in lower case. */
  readonly header: (name: string) => string | undefined
  readonly body: string
  readonly affinity: Affinity | null
  /** It always answers by a stream (AI SDK). */
  readonly alwaysStreams: boolean
}

const chatIdMax = 255
const keyMax = 4096

/** A body that is no JSON object is for the server to judge. */
export function parseGeneration({
  header,
  body,
  affinity,
  alwaysStreams,
}: GenerationParts): GenerationRequest {
  const fields = parseObject(body)
  const chat = header('x-chat-id') ?? (alwaysStreams ? fields.id : undefined)
  return {
    streams: alwaysStreams || fields.stream === true,
    chat: typeof chat === 'string' && isChatId(chat) ? chat : null,
    key: affinity === null ? null : keyOf(affinity, header, fields),
  }
}

export function isChatId(text: string): boolean {
  return text !== '' && text.length <= chatIdMax
}

function keyOf(
  affinity: Affinity,
  header: GenerationParts['header'],
  fields: Record<string, unknown>,
): string | null {
  const value = 'header' in affinity ? header(affinity.header.toLowerCase()) : at(fields, affinity.body)
  if (value === undefined || value === null || value === '') return null
  return (typeof value === 'string' ? value : JSON.stringify(value)).slice(0, keyMax)
}

/** `a.b.0`: fields of objects and places in lists. */
function at(fields: unknown, path: string): unknown {
  let value = fields
  for (const name of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
    value = (value as Record<string, unknown>)[name]
  }
  return value
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}
