import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'

const run = promisify(execFile)
const root = path.resolve(import.meta.dirname, '../..')
/** Of whoever runs the tests: `npm` is not always on the path of a worker. */
const npm = process.env.npm_execpath === undefined ? ['npm'] : [process.execPath, process.env.npm_execpath]

let folder: string

/** Of the line that says where the gateway listens. */
function portsOf(line: string): [publicPort: string, internalPort: string] | null {
  const { public: clients, internal } = JSON.parse(line) as {
    [listener: string]: { port: number } | undefined
  }
  return clients === undefined || internal === undefined
    ? null
    : [String(clients.port), String(internal.port)]
}

async function runNpm(args: readonly string[], cwd: string): Promise<string> {
  const [command, ...first] = npm
  const { stdout } = await run(command!, [...first, ...args], { cwd, maxBuffer: 16 * 1024 * 1024 })
  return stdout
}

/** What a user does: pack, and install into an empty folder, with the dependencies that the package names and no other. */
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'evenkeel-package-'))
  await runNpm(['pack', '--pack-destination', folder], root)
  const [tarball] = (await readdir(folder)).filter((name) => name.endsWith('.tgz'))
  await writeFile(
    path.join(folder, 'package.json'),
    JSON.stringify({ name: 'app', private: true, type: 'module' }),
  )
  await runNpm(
    [
      'install',
      `./${tarball}`,
      'socket.io@4',
      '--prefer-offline',
      '--no-audit',
      '--no-fund',
      '--ignore-scripts',
    ],
    folder,
  )
}, 180_000)

afterAll(() => rm(folder, { recursive: true, force: true }))

function bin(name: string): string {
  return path.join(folder, 'node_modules', '.bin', name)
}

test('the binary runs, and says its version', async () => {
  const { stdout } = await run(process.execPath, [bin('evenkeel'), '--version'], { cwd: folder })
  const { version } = (await import(path.join(root, 'package.json'), { with: { type: 'json' } })).default
  expect(stdout.trim()).toBe(version)
})

test('a gateway, a node and a client, all from the package', async () => {
  const app = `
    import { createNode } from 'evenkeel/sdk'
    import { connect } from 'evenkeel/client'
    import { attachWebSocketServer } from 'evenkeel/ws'
    import { attachSocketIO } from 'evenkeel/socket.io'
    const [publicPort, internalPort] = process.argv.slice(2)
    const node = createNode({ id: 'n1', gateways: ['ws://127.0.0.1:' + internalPort] })
    node.serve({ message: (session, data) => void session.send('echo ' + data) })
    await node.start()
    const client = new WebSocket('ws://127.0.0.1:' + publicPort + '/ws')
    client.onopen = () => client.send('hello')
    client.onmessage = async ({ data }) => {
      console.log(data, [connect, attachWebSocketServer, attachSocketIO].map((one) => typeof one).join())
      client.close()
      await node.stop()
    }
  `
  await writeFile(path.join(folder, 'app.js'), app)
  const gateway = spawn(
    process.execPath,
    [bin('evenkeel'), 'gateway', '--host', '127.0.0.1', '--port', '0', '--internal-port', '0'],
    { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] },
  )
  try {
    for await (const line of createInterface(gateway.stdout)) {
      const ports = portsOf(line)
      if (ports === null) continue
      const { stdout } = await run(process.execPath, ['app.js', ...ports], { cwd: folder, timeout: 20_000 })
      expect(stdout.trim()).toBe('echo hello function,function,function')
      break
    }
  } finally {
    gateway.kill('SIGTERM')
    await once(gateway, 'close')
  }
})

test('every entry has types that a strict compiler takes', async () => {
  const source = `
    import { createNode, type Session } from 'evenkeel/sdk'
    import { connect } from 'evenkeel/client'
    import { attachWebSocketServer } from 'evenkeel/ws'
    import { attachSocketIO } from 'evenkeel/socket.io'
    export const node = createNode({ id: 'n1', gateways: ['ws://127.0.0.1:1'] })
    node.serve<{ count: number }>({ message: (session: Session<{ count: number }>) => session.close() })
    export const all: unknown[] = [connect, attachWebSocketServer, attachSocketIO]
  `
  await writeFile(path.join(folder, 'types.ts'), source)
  const options = [
    '--noEmit',
    '--strict',
    '--module',
    'nodenext',
    '--target',
    'es2024',
    '--lib',
    'es2024,dom',
  ]
  const types = ['--types', 'node', '--typeRoots', path.join(root, 'node_modules/@types'), '--skipLibCheck']
  const tsc = path.join(root, 'node_modules/.bin/tsc')
  await expect(
    run(process.execPath, [tsc, ...options, ...types, 'types.ts'], { cwd: folder }),
  ).resolves.toMatchObject({
    stdout: '',
  })
})
