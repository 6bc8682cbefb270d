import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const root = path.resolve(import.meta.dirname, '../..')

test('the Socket.IO chat: rooms, typing, presence, and nobody is disconnected while a server is drained', async () => {
  const args = ['--conditions=evenkeel-source', 'examples/socket.io-chat.ts']
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root, timeout: 20_000 })
  const lines = stdout.split('\n').map((line) => line.trim())
  const drained = lines.indexOf('chat-1 is drained …')
  expect(lines.filter((line) => line.startsWith('in '))).toEqual([
    'in the tea room: ann,bob',
    'in the chess room: cy',
    'in the tea room: ann,bob,cy',
    'in the tea room: ann,cy',
  ])
  expect(lines).toContain('bob hears: ann (1, by way of chat-1): anybody for tea?')
  expect(lines.slice(drained)).toContain('bob sees: ann is typing')
  const ofAnn = lines.slice(drained).filter((line) => line.startsWith('ann '))
  expect(ofAnn).toEqual([
    'ann hears: ann (2, by way of chat-2): still connected, still counting',
    'ann sees: cy has come',
    'ann sees: bob has gone',
    'ann is disconnected: io client disconnect',
  ])
  expect(lines.slice(0, drained).filter((line) => line.includes('disconnected'))).toEqual([])
})
