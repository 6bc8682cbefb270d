import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const root = path.resolve(import.meta.dirname, '../..')

test('the chat example: its client stays connected, and counted, while its node is drained', async () => {
  const args = ['--conditions=evenkeel-source', 'examples/ws-chat.ts']
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root, timeout: 20_000 })
  expect(stdout.split('\n').filter((line) => line.includes('ada'))).toEqual([
    '  ada hears: welcome, ada',
    '  ada hears: ada (1, by way of chat-1): is anybody there?',
    '[chat-1] ada left: 1012 migrated',
    '  ada hears: ada (2, by way of chat-2): still connected, still counting',
    '[chat-2] ada left: 1000 ',
  ])
})
