import { existsSync, globSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import path from 'node:path'
import { describe, expect, test } from 'vitest'

/** design §5: imports point down only. */
const ranks: Record<string, number> = {
  cli: 7,
  admin: 6,
  sdk: 6,
  edge: 6,
  gateway: 5,
  link: 4,
  cluster: 3,
  core: 2,
  protocol: 1,
}
/** Pure: no I/O, so nothing but each other. */
const pureLayers = new Set(['core', 'protocol'])
/** What goes to browsers can do no more. */
const browserFolder = 'client'
const root = path.resolve(import.meta.dirname, '../..')

interface Import {
  file: string
  specifier: string
}

/** All import and re-export statements, `import()` and `require()`; types too, for they are dependencies as well. */
function importsOf(file: string, source: string): Import[] {
  const code = source.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
  const patterns = [
    /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]/gm,
    /^\s*import\s*['"]([^'"]+)['"]/gm,
    /\b(?:import|require)\s*\(\s*['"`]([^'"`]+)['"`]/g,
  ]
  return patterns.flatMap((pattern) =>
    [...code.matchAll(pattern)].map((match) => ({ file, specifier: match[1]! })),
  )
}

/** The layer of a file, by its path from the root. */
function layerOf(file: string): string {
  const [top, layer] = file.split('/')
  return top === 'src' ? layer! : top!
}

/** The layer that is imported, or null for a package or a module of Node.js. */
function targetLayer({ file, specifier }: Import): string | null {
  if (specifier === 'evenkeel/sdk') return 'sdk'
  if (!specifier.startsWith('.')) return null
  return layerOf(path.posix.join(path.posix.dirname(file), specifier))
}

/** Why the import is wrong, or null. */
function complaint(one: Import): string | null {
  const from = layerOf(one.file)
  const to = targetLayer(one)
  if (to === null) {
    if (!pureLayers.has(from)) return null
    return `${from} does no I/O and imports neither ${isBuiltin(one.specifier) ? 'Node.js modules' : 'packages'}`
  }
  if (from === to) return null
  if (from === 'cli' && to === browserFolder) return null
  if (ranks[to] === undefined) return `${to} is no layer`
  if (from === browserFolder) return pureLayers.has(to) ? null : `${from} may import core and protocol only`
  if (ranks[from] === undefined) return `${from} is no layer`
  if (from === 'sdk' && to === 'gateway') return 'sdk runs inside socket servers and never imports gateway'
  if (ranks[to] === ranks[from]) return `${from} and ${to} never import each other`
  return ranks[to] < ranks[from] ? null : `imports point down, and ${to} is above ${from}`
}

function judge(file: string, source: string): string[] {
  return importsOf(file, source).flatMap((one) => {
    const why = complaint(one)
    return why === null ? [] : [`${one.file} imports '${one.specifier}': ${why}`]
  })
}

const files = globSync(['src/**/*.{ts,js,mts,mjs}', `${browserFolder}/**/*.{ts,js,mts,mjs}`], { cwd: root })
  .map((file) => file.split(path.sep).join('/'))
  .sort()

test('src/ and client/ keep the layer rule', () => {
  expect(files.length).toBeGreaterThan(40)
  expect(files.flatMap((file) => judge(file, readFileSync(path.join(root, file), 'utf8')))).toEqual([])
})

test('every relative import was found where it says, so none escaped the rule', () => {
  const imports = files.flatMap((file) => importsOf(file, readFileSync(path.join(root, file), 'utf8')))
  const relative = imports.filter(({ specifier }) => specifier.startsWith('.'))
  expect(relative.length).toBeGreaterThan(100)
  const lost = relative.filter(
    ({ file, specifier }) => !existsSync(path.join(root, path.dirname(file), specifier)),
  )
  expect(lost).toEqual([])
})

test('every folder of src/ has its place', () => {
  const folders = new Set(files.filter((file) => file.startsWith('src/')).map(layerOf))
  expect([...folders].filter((folder) => ranks[folder] === undefined)).toEqual([])
})

describe('the rule sees', () => {
  test.each([
    ['src/core/x.ts', "import { a } from '../gateway/y.ts'", 'imports point down, and gateway is above core'],
    [
      'src/link/x.ts',
      "import type { A } from '../gateway/y.ts'",
      'imports point down, and gateway is above link',
    ],
    ['src/gateway/x.ts', "export { a } from '../cli/y.ts'", 'imports point down, and cli is above gateway'],
    ['src/gateway/x.ts', "export * from '../edge/y.ts'", 'imports point down, and edge is above gateway'],
    [
      'src/gateway/x.ts',
      "const a = await import('../admin/y.ts')",
      'imports point down, and admin is above gateway',
    ],
    ['src/core/x.ts', "import '../link/y.ts'", 'imports point down, and link is above core'],
    [
      'src/protocol/x.ts',
      "import { a } from '../core/y.ts'",
      'imports point down, and core is above protocol',
    ],
    [
      'src/edge/x.ts',
      "import {\n  a,\n  b,\n} from '../admin/y.ts'",
      'edge and admin never import each other',
    ],
    ['src/admin/x.ts', "import { a } from 'evenkeel/sdk'", 'admin and sdk never import each other'],
    ['src/sdk/x.ts', "import { a } from '../edge/y.ts'", 'sdk and edge never import each other'],
    [
      'src/sdk/x.ts',
      "import { a } from '../gateway/y.ts'",
      'sdk runs inside socket servers and never imports gateway',
    ],
    ['client/x.ts', "import { a } from '../src/gateway/y.ts'", 'client may import core and protocol only'],
    [
      'src/core/x.ts',
      "import { readFileSync } from 'node:fs'",
      'core does no I/O and imports neither Node.js modules',
    ],
    [
      'src/protocol/x.ts',
      "import type { Buffer } from 'node:buffer'",
      'protocol does no I/O and imports neither Node.js modules',
    ],
    ['src/core/a/x.ts', "import { WebSocket } from 'ws'", 'core does no I/O and imports neither packages'],
    ['src/core/x.ts', "import { a } from '../other/y.ts'", 'other is no layer'],
    ['src/edge/x.ts', "import { a } from '../../client/y.ts'", 'client is no layer'],
    ['src/core/x.ts', "import { a } from '../../test/support/y.ts'", 'test is no layer'],
  ])('%s: %s', (file, source, why) => {
    const [, specifier] = /['"](.+)['"]/.exec(source)!
    expect(judge(file, source)).toEqual([`${file} imports '${specifier}': ${why}`])
  })

  test.each([
    ['src/cli/x.ts', "import { a } from '../admin/y.ts'"],
    ['src/cli/demo/x.ts', "import { a } from 'evenkeel/sdk'"],
    ['src/cli/demo/x.ts', "import { a } from '../../../client/demo/y.ts'"],
    ['src/admin/x.ts', "import { a } from '../link/y.ts'"],
    ['src/link/x.ts', "import { a } from '../core/y.ts'\nimport { b } from 'ws'"],
    ['src/core/balance/x.ts', "import { a } from '../health/y.ts'\nimport { b } from '../../protocol/y.ts'"],
    ['src/core/x.ts', "// import { a } from '../gateway/y.ts'\n/** import('../gateway/y.ts') */"],
    ['client/x.ts', "import { a } from '../src/protocol/y.ts'"],
  ])('and lets pass %s: %s', (file, source) => {
    expect(judge(file, source)).toEqual([])
  })
})
