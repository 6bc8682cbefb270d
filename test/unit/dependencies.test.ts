import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { root } from '../support/processes.ts'

const { packages } = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as {
  packages: Record<string, { version?: string; name?: string }>
}

/** Old servers that tests talk to, and nobody else. */
const forTests = /^node_modules\/socket\.io-4\.[67]\//

/** The first versions without what SECURITY.md names. */
test.each([
  ['ws', [8, 23, 0]],
  ['engine.io', [6, 6, 7]],
  ['socket.io-parser', [4, 2, 6]],
] as const)('every %s is new enough', (name, least) => {
  const found = Object.entries(packages).filter(
    ([place]) => place.endsWith(`node_modules/${name}`) && !forTests.test(place),
  )
  expect(found.length).toBeGreaterThan(0)
  for (const [place, { version = '' }] of found)
    expect(isAtLeast(version, least), `${place} ${version}`).toBe(true)
})

function isAtLeast(version: string, least: readonly number[]): boolean {
  const parts = version.split('-', 1)[0]!.split('.').map(Number)
  const first = parts.findIndex((part, i) => part !== least[i])
  return first === -1 || parts[first]! > least[first]!
}
