import { isMap, isSeq, LineCounter, type Node, type Pair, parseDocument } from 'yaml'
import { type Complaint, complaintText, explain, pathText } from '../admin/validation.ts'
import { ConfigError, type ConfigMistake } from './config-error.ts'
import { configSchema } from './config-schema.ts'
import { nearest } from './nearest.ts'

/** Any nested object, before it is validated. */
export type RawConfig = Record<string, unknown>

/** Where something is written, or would be. */
export type ConfigPlace = Omit<ConfigMistake, 'message'>

export interface ReadConfig {
  readonly raw: RawConfig
  /** Where a value is, or the nearest place around it. */
  placeOf(path: readonly PropertyKey[]): ConfigPlace
}

/** As `readConfigText`, without the places. */
export function parseConfigText(text: string, source: string): RawConfig {
  return readConfigText(text, source).raw
}

/**
 * Reads YAML or JSON (which is YAML) and checks it by itself.
 * Throws ConfigError with the line and column of every mistake.
 */
export function readConfigText(text: string, source: string): ReadConfig {
  const lineCounter = new LineCounter()
  const document = parseDocument(text, { lineCounter, prettyErrors: false, logLevel: 'error' })
  const at = (offset: number) => {
    const { line, col } = lineCounter.linePos(offset)
    return { source, line, column: col }
  }
  const syntax = [...document.errors, ...document.warnings]
  if (syntax.length > 0)
    throw new ConfigError(syntax.map((one) => ({ ...at(one.pos[0]), message: one.message })))

  const raw = toPlain(() => document.toJS(), source) ?? {}
  const result = configSchema.safeParse(raw)
  if (result.success) {
    return {
      raw: raw as RawConfig,
      placeOf: (path) => at(offsetOf(document.contents, { kind: 'missing', path: [...path], expected: '' })),
    }
  }
  const found = explain(configSchema, result.error, raw)
    .map((complaint) => ({ offset: offsetOf(document.contents, complaint), complaint }))
    .sort((a, b) => a.offset - b.offset)
  throw new ConfigError(
    found.map(({ offset, complaint }) => ({ ...at(offset), message: configComplaintText(complaint) })),
  )
}

/** The sentence for a complaint; unknown keys name what was probably meant. */
export function configComplaintText(complaint: Complaint): string {
  if (complaint.kind !== 'unknown-key') return complaintText(complaint)
  const name = pathText([...complaint.path, complaint.key])
  if (/token$/i.test(complaint.key)) {
    return `unknown key "${name}"; tokens come from EVENKEEL_NODE_TOKEN and EVENKEEL_ADMIN_TOKEN, or from nodeTokenFile and adminTokenFile`
  }
  const meant = nearest(complaint.key, complaint.known)
  if (meant.length === 0) return complaintText(complaint)
  return `unknown key "${name}"; did you mean ${meant.map((key) => `"${key}"`).join(' or ')}?`
}

function toPlain(read: () => unknown, source: string): unknown {
  try {
    return read()
  } catch (error) {
    // Aliases are resolved only now: one that points nowhere, or a bomb of them.
    const mistake: ConfigMistake = { source, message: error instanceof Error ? error.message : String(error) }
    throw new ConfigError([mistake])
  }
}

/** Where the complaint's key or value starts; the nearest place around it when it is missing. */
function offsetOf(contents: Node | null, complaint: Complaint): number {
  let node: Node | null = contents
  let offset = node?.range?.[0] ?? 0
  const path = complaint.kind === 'unknown-key' ? [...complaint.path, complaint.key] : complaint.path
  for (const [index, part] of path.entries()) {
    const isLast = index === path.length - 1
    if (isMap(node)) {
      const pair: Pair | undefined = node.items.find(({ key }) => keyText(key) === String(part))
      if (pair === undefined) return offset
      if (isLast && complaint.kind === 'unknown-key') return startOf(pair.key) ?? offset
      offset = startOf(pair.value) ?? startOf(pair.key) ?? offset
      node = pair.value as Node | null
    } else if (isSeq(node) && typeof part === 'number') {
      node = (node.items[part] ?? null) as Node | null
      offset = startOf(node) ?? offset
    } else {
      return offset
    }
  }
  return offset
}

function keyText(key: unknown): string {
  return String((key as { value?: unknown } | null)?.value ?? '')
}

function startOf(node: unknown): number | undefined {
  return (node as Node | null)?.range?.[0]
}
