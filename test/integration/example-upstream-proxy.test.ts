import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const root = path.resolve(import.meta.dirname, '../..')

test('the example of upstreams: clients stay connected while one server is drained and the other one dies', async () => {
  const args = ['--conditions=evenkeel-source', 'examples/upstream-proxy.ts']
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root, timeout: 20_000 })
  // Which of the two comes first is drawn by lot.
  const first = /ada hears: (server-[12])/.exec(stdout)?.[1]
  const second = first === 'server-1' ? 'server-2' : 'server-1'
  expect(stdout.split('\n').slice(1)).toEqual([
    `  ada hears: ${first} has heard: is anybody there?`,
    `${first} is drained …`,
    `  ada hears: ${second} has heard: still connected`,
    `${second} dies …`,
    `  ada hears: ${first} has heard: and still`,
    '  the stream of news: one, two, three',
    '',
  ])
  expect(stdout).toMatch(/^GET \/app\/: server-[12] greets you\n/)
})
