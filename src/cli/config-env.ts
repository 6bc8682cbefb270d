import { coerceText, type JsonSchema, toJsonSchema } from '../admin/validation.ts'
import { configSchema } from './config-schema.ts'
import { nearest } from './nearest.ts'

/** One value of the configuration and the environment variable that sets it. */
export interface ConfigLeaf {
  path: string[]
  /** `rebalance.intervalMs` is set by `EVENKEEL_REBALANCE_INTERVAL_MS`, and so on for every value. */
  variable: string
  schema: JsonSchema
}

/** Variables with a meaning of their own, beside those that set configuration values. */
const otherVariables = [
  'EVENKEEL_CONFIG',
  'EVENKEEL_NODE_TOKEN',
  'EVENKEEL_ADMIN_TOKEN',
  'EVENKEEL_ADMIN_URL',
]

/**
 * Values from the environment, by the type that the schema wants. An empty variable counts as unset.
 * An unknown `EVENKEEL_` variable is a warning only: it may belong to another version.
 */
export function readEnvironment(env: Readonly<Record<string, string | undefined>>): {
  values: { leaf: ConfigLeaf; value: unknown }[]
  warnings: string[]
} {
  const leaves = new Map(configLeaves(toJsonSchema(configSchema)).map((leaf) => [leaf.variable, leaf]))
  const known = [...leaves.keys(), ...otherVariables]
  const values: { leaf: ConfigLeaf; value: unknown }[] = []
  const warnings: string[] = []
  for (const [variable, text] of Object.entries(env)) {
    if (!variable.startsWith('EVENKEEL_') || text === undefined) continue
    const leaf = leaves.get(variable)
    if (leaf !== undefined) {
      if (text !== '') values.push({ leaf, value: readValue(text, leaf.schema) })
    } else if (!otherVariables.includes(variable)) {
      const [meant] = nearest(variable, known)
      warnings.push(`unknown variable ${variable}${meant === undefined ? '' : `; did you mean ${meant}?`}`)
    }
  }
  return { values, warnings }
}

/** Lists of more than texts, and records, are JSON. */
function readValue(text: string, schema: JsonSchema): unknown {
  const isJson = schema.items?.type === 'object' || schema.type === 'object'
  const mayBeJson = schema.anyOf?.some(({ type }) => type === 'object') && text.trim().startsWith('{')
  if (!isJson && !mayBeJson) return coerceText(text, schema)
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** The values of a schema, in its order; keys that editors use (`$schema`) are not among them. */
export function configLeaves(schema: JsonSchema, path: string[] = []): ConfigLeaf[] {
  return Object.entries(schema.properties ?? {}).flatMap(([key, child]): ConfigLeaf[] => {
    if (key.startsWith('$')) return []
    const here = [...path, key]
    if (child.properties !== undefined) return configLeaves(child, here)
    return [{ path: here, variable: `EVENKEEL_${here.map(screamingSnake).join('_')}`, schema: child }]
  })
}

function screamingSnake(camel: string): string {
  return camel.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()
}
