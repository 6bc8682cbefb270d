import { execFile } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, onTestFinished, test } from 'vitest'

const run = promisify(execFile)
const root = path.resolve(import.meta.dirname, '../..')

/** Without an engine: what the Dockerfile copies, as far as .dockerignore lets it, has to be enough for the build. */
test('the image can be built from what is copied into it', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'evenkeel-image-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const ignore = await readFile(path.join(root, '.dockerignore'), 'utf8')
  const allowed = ignore.split('\n').filter((line) => line.startsWith('!'))
  const dockerfile = await readFile(path.join(root, 'Dockerfile'), 'utf8')
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, files]) =>
    files!.split(' '),
  )
  for (const file of copied) {
    expect(allowed).toContain(`!${file}`)
    await cp(path.join(root, file), path.join(folder, file), { recursive: true })
  }
  await symlink(path.join(root, 'node_modules'), path.join(folder, 'node_modules'))

  const { scripts } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8'))
  await run('sh', ['-c', scripts.build], {
    cwd: folder,
    env: { ...process.env, PATH: `${path.join(root, 'node_modules/.bin')}:${process.env.PATH}` },
  })
  const commands = [...dockerfile.matchAll(/^CMD \["node", "([^"]+)"/gm)].map(([, script]) => script!)
  expect(commands).toHaveLength(1)
  const { stdout } = await run(process.execPath, [commands[0]!, '--version'], { cwd: folder })
  expect(stdout).toMatch(/^\d+\.\d+\.\d+/)
})
