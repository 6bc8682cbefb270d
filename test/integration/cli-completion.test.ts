import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AdminServer, startAdminServer } from '../support/admin-server.ts'
import { root, run } from '../support/cli.ts'
import { fakeNode } from '../support/fake-operator.ts'

let admin: AdminServer
let folder: string

beforeAll(async () => {
  admin = await startAdminServer()
  admin.operator.nodeList.splice(0, 2, fakeNode('chat-1'), fakeNode('chat-2'), fakeNode('mail-1'))
  folder = await mkdtemp(path.join(tmpdir(), 'evenkeel-completion-'))
  const main = path.join(root, 'src/cli/main.ts')
  const evenkeel = `#!/bin/sh\nexec "${process.execPath}" --conditions=evenkeel-source "${main}" "$@"\n`
  await writeFile(path.join(folder, 'evenkeel'), evenkeel, { mode: 0o755 })
})

afterAll(async () => {
  await admin[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

async function words(...typed: string[]): Promise<string[]> {
  const { stdout } = await run(['complete', '--', ...typed], { EVENKEEL_ADMIN_URL: admin.url })
  return stdout.split('\n').filter((word) => word !== '')
}

describe('what may come next', () => {
  test.each<[string[], string[]]>([
    [['dra'], ['drain']],
    [
      ['config', ''],
      ['check', 'schema'],
    ],
    [['config', 'check', ''], [':file']],
    [['gateway', '--config', ''], [':file']],
    [['rebalance', '--dry'], ['--dry-run']],
    [['gateway', '--policy', 'rand'], ['random']],
    [
      ['drain', 'chat'],
      ['chat-1', 'chat-2'],
    ],
    [['weight', 'chat-1', ''], []],
    [['drain', '--rate', '5', 'm'], ['mail-1']],
    [
      ['completion', ''],
      ['bash', 'zsh', 'fish'],
    ],
    [['nonsense', ''], []],
  ])('%j', async (typed, expected) => {
    expect((await words(...typed)).filter((word) => typed.at(-1) !== '' || expected.includes(word))).toEqual(
      expected,
    )
  })
})

test('a gateway that does not answer costs a moment, and no error', async () => {
  const { code, stdout, stderr } = await run(['complete', '--', 'drain', 'c'], {
    EVENKEEL_ADMIN_URL: 'http://127.0.0.1:1/',
  })
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '', stderr: '' })
})

test('bash completes by the script', async () => {
  const script = `
    eval "$(evenkeel completion bash)"
    COMP_WORDS=(evenkeel drain chat); COMP_CWORD=2
    _evenkeel
    echo "\${COMPREPLY[@]}"
  `
  const env = { PATH: `${folder}:${process.env.PATH}`, EVENKEEL_ADMIN_URL: admin.url }
  const { stdout } = await promisify(execFile)('bash', ['-c', script], { env })
  expect(stdout).toBe('chat-1 chat-2\n')
})
