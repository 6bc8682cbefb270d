import { expect, test } from 'vitest'
import { ServerNames, serverNamePattern } from '../../../src/core/net/server-names.ts'

test('names in full come before wildcards, which stand for one label', () => {
  const names = new ServerNames<string>([
    { names: ['a.example'], value: 'first' },
    { names: ['*.b.example', 'b.example'], value: 'b' },
    { names: ['x.b.example', 'B.example'], value: 'x' },
  ])
  const found = [
    'a.example',
    'A.EXAMPLE.',
    'b.example',
    'y.b.example',
    'x.b.example',
    'z.y.b.example',
    '',
    'example',
    '.b.example',
  ]
  expect(found.map((name) => names.find(name))).toEqual([
    'first',
    'first',
    'b',
    'b',
    'x',
    'first',
    'first',
    'first',
    'first',
  ])
})

test('what is a name', () => {
  for (const name of ['a', 'a.b', '*.a.b', 'xn--d1acufc.example', '_a.b', 'A-1.b'])
    expect(name).toMatch(serverNamePattern)
  for (const name of ['', '*', '*.', 'a..b', 'a.*.b', 'a b', '-a', 'a-', 'a.b.', '*a.b'])
    expect(name).not.toMatch(serverNamePattern)
})
