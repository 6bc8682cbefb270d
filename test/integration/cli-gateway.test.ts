import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { finish, killChildren, readUntil, root, run, start } from '../support/cli.ts'

let directory = ''

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'evenkeel-cli-'))
})

afterEach(async () => {
  await killChildren()
  await rm(directory, { recursive: true })
})

describe('configuration', () => {
  test('config check names every mistake by its place', async () => {
    const file = path.join(directory, 'gateway.yaml')
    await writeFile(file, 'public:\n  port: x\npolcy: random\n')
    const text = await run(['config', 'check', file])
    expect(text.code).toBe(1)
    expect(text.stderr).toContain(`${file}:2:9: public.port: expected an integer from 0 to 65535, got "x"`)
    expect(text.stderr).toContain(`${file}:3:1: unknown key "polcy"; did you mean "policy"`)
    const json = await run(['config', 'check', file, '--json'])
    expect(JSON.parse(json.stdout)).toMatchObject({
      valid: false,
      mistakes: [{ line: 2, column: 9 }, { line: 3 }],
    })

    await writeFile(file, 'policy: random\n')
    expect(await run(['config', 'check', file])).toEqual({ code: 0, stdout: `${file}: valid\n`, stderr: '' })
    expect(JSON.parse((await run(['config', 'check', file, '--json'])).stdout).config.policy).toBe('random')
  })

  test('config schema is JSON Schema', async () => {
    const { code, stdout } = await run(['config', 'schema'])
    expect([code, JSON.parse(stdout).type]).toEqual([0, 'object'])
  })

  test('a gateway with a wrong configuration does not start', async () => {
    const file = path.join(directory, 'gateway.yaml')
    await writeFile(file, 'limits: {holdMs: soon}\n')
    const [wrong, missing, open] = await Promise.all([
      run(['gateway', '--config', file]),
      run(['gateway', '--config', path.join(directory, 'none.yaml')]),
      run(['gateway', '--internal-host', '0.0.0.0', '--port', '0', '--internal-port', '0']),
    ])
    expect([wrong.code, missing.code, open.code]).toEqual([1, 1, 1])
    expect(wrong.stderr).toContain(`${file}:1:18: limits.holdMs`)
    expect(missing.stderr).toContain('ENOENT')
    expect(open.stderr).toContain('without EVENKEEL_ADMIN_TOKEN and EVENKEEL_NODE_TOKEN')
  })
})

describe('gateway', () => {
  test('runs, answers operators, and a signal ends it well', async () => {
    const child = start([
      'gateway',
      '--host',
      '127.0.0.1',
      '--port',
      '0',
      '--internal-port',
      '0',
      '--policy',
      'random',
    ])
    const log = await readUntil(child, 'gateway ready')
    const ready = JSON.parse(log.split('\n').find((one) => one.includes('gateway ready'))!)
    expect(ready.public.port).not.toBe(ready.internal.port)
    const url = `http://127.0.0.1:${ready.internal.port}`
    expect(await run(['nodes', '--url', url])).toEqual({
      code: 0,
      stdout: 'No node has registered yet.\n',
      stderr: '',
    })
    child.kill('SIGTERM')
    expect(await finish(child)).toMatchObject({ code: 0, stderr: '' })
  })

  test('a port that is taken is named, with the remedy', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    const result = await run([
      'gateway',
      '--host',
      '127.0.0.1',
      '--port',
      String(port),
      '--internal-port',
      '0',
    ])
    other.close()
    expect(result.code).toBe(1)
    expect(result.stderr).toContain(`Cannot listen on 127.0.0.1:${port}: another program listens there`)
  })
})

describe('signals', () => {
  const program = (close: string) => [
    '--input-type=module-typescript',
    '--eval',
    `import { closeOnSignal } from ${JSON.stringify(path.join(root, 'src/cli/close-on-signal.ts'))}
     setInterval(() => {}, 1000)
     const say = (...words: unknown[]) => console.log(words.at(-1))
     closeOnSignal(${close}, { info: say, warn: say, error: say })
     console.log('running')`,
  ]

  test.each(['SIGTERM', 'SIGINT'] as const)('%s closes gracefully', async (signal) => {
    const child = start([], {}, program('async () => console.log("closed by hand")'))
    await readUntil(child, 'running')
    child.kill(signal)
    expect(await finish(child)).toMatchObject({ code: 0, stdout: expect.stringContaining('closed by hand') })
  })

  test('a failure to close is exit code 1', async () => {
    const child = start([], {}, program('() => Promise.reject(new Error("stuck"))'))
    await readUntil(child, 'running')
    child.kill('SIGTERM')
    expect((await finish(child)).code).toBe(1)
  })

  test('a second signal ends it at once', async () => {
    const child = start([], {}, program('() => new Promise(() => {})'))
    await readUntil(child, 'running')
    child.kill('SIGTERM')
    await readUntil(child, 'closing')
    child.kill('SIGTERM')
    expect((await finish(child)).code).toBe(1)
  })
})
