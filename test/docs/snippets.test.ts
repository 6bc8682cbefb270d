import { execFile } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { stripTypeScriptTypes } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, onTestFinished, test } from 'vitest'
import { checkConfigFile } from '../../src/cli/config.ts'
import { type Block, blocksOf, guides, readGuide } from '../support/markdown.ts'

const root = path.resolve(import.meta.dirname, '../..')
const blocks = (...languages: string[]) => guides().flatMap((file) => blocksOf(file, ...languages))
const placeOf = ({ file, line }: Block) => `${file}:${line}`

async function scratch(): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'evenkeel-docs-'))
  onTestFinished(() => rm(directory, { recursive: true, force: true }))
  return directory
}

/** By a piece of their text: YAML that is no configuration of a gateway. */
const otherYaml = ['externalRules:']

test('each YAML block is a configuration that `config check` takes', async () => {
  const directory = await scratch()
  const wrong: string[] = []
  for (const block of blocks('yaml')) {
    if (otherYaml.some((text) => block.text.includes(text))) continue
    const file = path.join(directory, 'gateway.yaml')
    await writeFile(file, block.text)
    await checkConfigFile(file).catch((error) => wrong.push(`${placeOf(block)}: ${error.message}`))
  }
  expect(wrong).toEqual([])
})

const node = "declare const node: import('evenkeel/sdk').EvenkeelNode"
const createNode = "import { createNode } from 'evenkeel/sdk'"

/** What a page's snippets take for granted, by name: what the reader has, or an earlier snippet has made. */
const given: Record<string, Record<string, string>> = {
  'docs/client.md': {
    connect: "import { connect } from 'evenkeel/client'",
    fetchToken: 'declare const fetchToken: () => Promise<string>',
    show: 'declare const show: (data: unknown) => void',
    reload: 'declare const reload: () => void',
    prompt: 'declare const prompt: string',
    url: 'declare const url: string',
    output: 'declare const output: HTMLElement',
    client: "declare const client: import('evenkeel/client').EvenkeelClient",
  },
  'docs/cluster.md': { createNode, node },
  'docs/canary.md': { createNode },
  'docs/engine.io.md': { node },
  'docs/tls.md': { createNode, readFileSync: "import { readFileSync } from 'node:fs'" },
  'docs/runs.md': {
    model: `declare const model: {
      stream(request: unknown, options: { prefix: string; signal: AbortSignal }): AsyncIterable<string> }`,
  },
  'docs/sdk.md': {
    createPresence: "import { createPresence } from 'evenkeel/sdk'",
    node: `declare const node: Omit<import('evenkeel/sdk').EvenkeelNode, 'serve'> & {
      serve(handlers: import('evenkeel/sdk').SessionHandlers<{ name: string }>): void }`,
    chunks: 'declare const chunks: string[]',
    session: "declare const session: import('evenkeel/sdk').Session",
  },
  'docs/socket.io.md': {
    attachSocketIO: "import { attachSocketIO } from 'evenkeel/socket.io'",
    Server: "import { Server } from 'socket.io'",
    createAdapter: "import { createAdapter } from '@socket.io/redis-adapter'",
    pub: 'declare const pub: unknown',
    sub: 'declare const sub: unknown',
  },
}

/** By a piece of their text: snippets that are not whole, or whose types are somebody else's. */
const notChecked: Record<string, string> = {
  'propagation.extract(ROOT_CONTEXT': 'needs a tracer and a handler of the application',
  'session.onExport(() => ({ count }))': 'not whole: the rest of the handler is the application’s',
  "io('http://gateway:8080')":
    'the client of Socket.IO, with the name that the server has in the snippet before',
  '@socket.io/redis-streams-adapter': 'takes the types of a client of the reader’s choice',
}

/** Ellipses stand for what the reader has. What a snippet makes itself is not given to it. */
function moduleOf({ file, text }: Block): string {
  const makes = (name: string) =>
    new RegExp(`\\b(const|let) ${name}\\b|\\bimport\\b.*\\b${name}\\b.*from`).test(text)
  const lines = Object.entries(given[file] ?? {}).map(([name, line]) => (makes(name) ? '' : line))
  const code = text.replaceAll("://…'", "://gateway'").replaceAll('…', 'undefined as never')
  return `${lines.join('\n')}\nexport {}\n${code}`
}

test('TypeScript of README.md and docs/ compiles', async () => {
  const project = await scratch()
  for (const name of ['src', 'client', 'node_modules'])
    await symlink(path.join(root, name), path.join(project, name))
  await copyFile(path.join(root, 'package.json'), path.join(project, 'package.json'))
  await mkdir(path.join(project, 'docs'))
  const checked = blocks('ts').filter(
    ({ text }) => !Object.keys(notChecked).some((piece) => text.includes(piece)),
  )
  for (const block of checked)
    await writeFile(path.join(project, `${placeOf(block).replaceAll(/[/:]/g, '-')}.ts`), moduleOf(block))
  const options = {
    extends: path.join(root, 'tsconfig.json'),
    compilerOptions: {
      lib: ['es2024', 'dom', 'dom.iterable', 'dom.asynciterable'],
      isolatedModules: false,
      // Few readers have it.
      exactOptionalPropertyTypes: false,
      types: ['node'],
      typeRoots: [path.join(root, 'node_modules/@types')],
    },
    include: ['*.ts'],
    exclude: [],
  }
  await writeFile(path.join(project, 'tsconfig.json'), JSON.stringify(options))
  const tsc = path.join(root, 'node_modules/typescript/bin/tsc')
  const { stdout } = await promisify(execFile)(process.execPath, [tsc, '-p', project]).catch((error) => error)
  expect(stdout.split('\n').filter((line: string) => line !== '')).toEqual([])
})

test('docs/getting-started.md shows examples/chat.ts as it is', () => {
  const [shown] = blocksOf('docs/getting-started.md', 'ts')
  expect(readGuide('examples/chat.ts')).toContain(shown!.text)
})

test('JavaScript of README.md and docs/ is well formed', () => {
  for (const block of blocks('js'))
    expect(() => stripTypeScriptTypes(block.text), placeOf(block)).not.toThrow()
})
