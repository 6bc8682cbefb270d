import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { descriptorComplaint, descriptorLimit, parseDescriptorLimit } from '../../src/cli/descriptors.ts'

const head = 'Limit                     Soft Limit           Hard Limit           Units\n'

test.each([
  [`${head}Max open files            1024                 524288               files\n`, 1024],
  [
    `${head}Max open files            unlimited            unlimited            files\n`,
    Number.MAX_SAFE_INTEGER,
  ],
  [head, null],
])('the limit as Linux says it', (text, limit) => {
  expect(parseDescriptorLimit(text)).toBe(limit)
})

test.each([
  [1_256, 1_000, 1, null],
  [1_255, 1_000, 1, '1256 file descriptors'],
  [1_256, 1_000, 2, '2256 file descriptors'],
] as const)('%d descriptors for %d connections of %d each', (limit, connections, each, complaint) => {
  const found = descriptorComplaint(limit, connections, each)
  if (complaint === null) expect(found).toBeNull()
  else expect(found).toContain(complaint)
})

test.runIf(process.platform === 'linux')('Node.js raises its limit to the hard one at its start', () => {
  const module = new URL('../../src/cli/descriptors.ts', import.meta.url).href
  const print = `import('${module}').then(({ descriptorLimit }) => console.log(descriptorLimit()))`
  const node = `exec "$0" --conditions=evenkeel-source -e "$1"`
  const { stdout, stderr } = spawnSync('sh', ['-c', `ulimit -Sn 256; ${node}`, process.execPath, print])
  expect(stderr.toString()).toBe('')
  expect(Number(stdout)).toBe(descriptorLimit())
  expect(Number(stdout)).toBeGreaterThan(256)
})
