import { gzipSync } from 'node:zlib'
import { rolldown } from 'rolldown'
import { describe, expect, test } from 'vitest'

/** What a browser has to load, minified, and gzipped as a server would. */
async function bundle(entry: string): Promise<{ code: string; bytes: number; imports: string[] }> {
  const build = await rolldown({
    input: new URL(`../../client/${entry}`, import.meta.url).pathname,
    platform: 'browser',
  })
  try {
    const { output } = await build.generate({ format: 'es', minify: true })
    const chunks = output.filter((piece) => piece.type === 'chunk')
    const code = chunks.map((chunk) => chunk.code).join('')
    return {
      code,
      bytes: gzipSync(code, { level: 9 }).length,
      imports: chunks.flatMap((chunk) => chunk.imports),
    }
  } finally {
    await build.close()
  }
}

describe('evenkeel/client', () => {
  test('is one file of at most 8 KB, gzipped, that needs nothing else', async () => {
    const { bytes, imports, code } = await bundle('index.ts')
    console.log(`evenkeel/client: ${bytes} bytes, minified and gzipped`)
    expect(bytes).toBeLessThanOrEqual(8_000)
    expect(imports).toEqual([])
    expect(code).not.toMatch(/\b(process|Buffer|require)\b/)
  })
})

describe.each([
  ['evenkeel/client/shared', 'shared.ts', 10_000],
  ['evenkeel/client/presence', 'presence.ts', 1_500],
])('%s', (name, entry, bytesMost) => {
  test('needs nothing else either', async () => {
    const { bytes, imports } = await bundle(entry)
    console.log(`${name}: ${bytes} bytes, minified and gzipped`)
    expect(bytes).toBeLessThanOrEqual(bytesMost)
    expect(imports).toEqual([])
  })
})
