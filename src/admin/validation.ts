import { z } from 'zod'

/** The part of JSON Schema that zod writes for our schemas. */
export interface JsonSchema {
  type?: string
  properties?: Record<string, JsonSchema>
  /** What the values of a record are. */
  additionalProperties?: JsonSchema | boolean
  items?: JsonSchema
  anyOf?: JsonSchema[]
  enum?: unknown[]
  const?: unknown
  examples?: unknown[]
  description?: string
  default?: unknown
  required?: string[]
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  minLength?: number
  maxLength?: number
}

export type Complaint =
  | { kind: 'unknown-key'; path: PropertyKey[]; key: string; known: string[] }
  | { kind: 'missing'; path: PropertyKey[]; expected: string }
  | { kind: 'wrong-value'; path: PropertyKey[]; expected: string; got: string }

const jsonSchemas = new WeakMap<z.ZodType, JsonSchema>()

/** What the schema accepts, as JSON Schema (draft 7, which editors understand best). */
export function toJsonSchema(schema: z.ZodType): JsonSchema {
  let json = jsonSchemas.get(schema)
  if (json === undefined) {
    json = z.toJSONSchema(schema, { io: 'input', target: 'draft-7' }) as JsonSchema
    jsonSchemas.set(schema, json)
  }
  return json
}

/** Says for each issue where it is, what is allowed there and what was given. */
export function explain(schema: z.ZodType, error: z.ZodError, input: unknown): Complaint[] {
  const json = toJsonSchema(schema)
  const complaints = error.issues.flatMap((issue): Complaint[] => {
    const path = [...issue.path]
    if (issue.code === 'unrecognized_keys') {
      const known = Object.keys(schemaAt(json, path).properties ?? {})
      return issue.keys.map((key) => ({ kind: 'unknown-key', path, key, known }))
    }
    const expected = describe(schemaAt(json, path))
    const value = valueAt(input, path)
    if (value === undefined) return [{ kind: 'missing', path, expected }]
    return [{ kind: 'wrong-value', path, expected, got: preview(value) }]
  })
  // Two rules that one value breaks make the same sentence.
  return [...new Map(complaints.map((complaint) => [complaintText(complaint), complaint])).values()]
}

/** One sentence for a complaint, the same for request bodies, queries and configuration. */
export function complaintText(complaint: Complaint): string {
  if (complaint.kind === 'unknown-key') {
    const known = complaint.known.length === 0 ? 'none is allowed' : `allowed: ${complaint.known.join(', ')}`
    return `unknown key "${clip(pathText([...complaint.path, complaint.key]))}"; ${known}`
  }
  const subject = complaint.path.length === 0 ? '' : `${pathText(complaint.path)}: `
  if (complaint.kind === 'missing') return `${subject}expected ${complaint.expected}; it is missing`
  return `${subject}expected ${complaint.expected}, got ${complaint.got}`
}

/** `limits.holdMs`, `allowedOrigins[2]`. */
export function pathText(path: PropertyKey[]): string {
  return path
    .map((part, index) =>
      typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${String(part)}`,
    )
    .join('')
}

/**
 * A text from a query, the environment or a flag as the type that the schema wants.
 * What does not fit stays a text, so that validation complains about exactly what was given.
 */
export function coerceText(text: string, schema: JsonSchema | undefined): unknown {
  const wanted = text.trim()
  if (schema?.type === 'integer' || schema?.type === 'number') {
    return /^-?\d+(\.\d+)?$/.test(wanted) ? Number(wanted) : text
  }
  if (schema?.type === 'boolean') {
    if (/^(true|1)$/i.test(wanted)) return true
    if (/^(false|0)$/i.test(wanted)) return false
    return text
  }
  const alternatives = schema?.anyOf ?? (schema?.items?.type === 'string' ? [schema] : [])
  if (alternatives.some((one) => one.type === 'array') && !alternatives.some((one) => one.const === wanted)) {
    return wanted.split(',').map((part) => part.trim())
  }
  return text
}

function schemaAt(root: JsonSchema, path: PropertyKey[]): JsonSchema {
  let schema = root
  for (const part of path) {
    const next =
      typeof part === 'number'
        ? arrayOf(schema)?.items
        : (schema.properties?.[String(part)] ?? valuesOf(schema))
    if (next === undefined) return schema
    schema = next
  }
  return schema
}

function arrayOf(schema: JsonSchema): JsonSchema | undefined {
  return schema.type === 'array' ? schema : schema.anyOf?.find((one) => one.type === 'array')
}

/** What any key of a record leads to. */
function valuesOf({ additionalProperties }: JsonSchema): JsonSchema | undefined {
  return typeof additionalProperties === 'object' ? additionalProperties : undefined
}

function describe(schema: JsonSchema): string {
  if (schema.anyOf) return schema.anyOf.map(describe).join(' or ')
  if ('const' in schema) return JSON.stringify(schema.const)
  if (schema.enum) return `one of ${schema.enum.map((value) => JSON.stringify(value)).join(', ')}`
  const example = schema.examples?.[0] === undefined ? '' : ` such as ${JSON.stringify(schema.examples[0])}`
  switch (schema.type) {
    case 'integer':
      return `an integer${range(schema)}`
    case 'number':
      return `a number${range(schema)}`
    case 'boolean':
      return 'true or false'
    case 'string':
      return `a text${length(schema)}${example}`
    case 'array':
      return `a list of ${
        schema.items
          ? describe(schema.items)
              .replace(/^a text/, 'texts')
              .replace(/^an object/, 'objects')
          : 'values'
      }`
    default: {
      const values = valuesOf(schema)
      if (values !== undefined) return `an object whose values are each ${describe(values)}`
      return `an object with the keys ${Object.keys(schema.properties ?? {}).join(', ') || '(none)'}`
    }
  }
}

function range({ minimum, maximum, exclusiveMinimum }: JsonSchema): string {
  if (exclusiveMinimum !== undefined) {
    return ` above ${exclusiveMinimum}${maximum === undefined ? '' : ` and at most ${maximum}`}`
  }
  if (minimum !== undefined && maximum !== undefined) return ` from ${minimum} to ${maximum}`
  return ''
}

function length({ minLength, maxLength }: JsonSchema): string {
  return minLength !== undefined && maxLength !== undefined
    ? ` of ${minLength} to ${maxLength} characters`
    : ''
}

function valueAt(input: unknown, path: PropertyKey[]): unknown {
  let value = input
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined
    value = (value as Record<PropertyKey, unknown>)[part]
  }
  return value
}

function preview(value: unknown): string {
  if (value === null) return 'nothing (null)'
  if (Array.isArray(value)) return `a list of ${value.length}`
  if (typeof value === 'object') return 'an object'
  return clip(JSON.stringify(value) ?? String(value))
}

function clip(text: string): string {
  return text.length > 80 ? `${text.slice(0, 77)}…` : text
}
