import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { loadConfig } from '../../src/cli/config.ts'
import { createLogger } from '../../src/cli/logger.ts'
import { startGateway } from '../../src/cli/start-gateway.ts'
import { type Child, kill, orExit, startChild } from './processes.ts'

export interface GatewayUnderTest {
  readonly publicPort: number
  readonly internalPort: number
  /** Throws when it is not there any more. */
  close(): Promise<void>
}

const closeMs = 10_000

interface Tokens {
  node?: string
  admin?: string
}

/** What users run: `evenkeel gateway` on free ports. */
export async function gatewayProcess(
  directory: string,
  config: Record<string, unknown>,
  tokens: Tokens,
  env: Record<string, string> = {},
): Promise<GatewayUnderTest> {
  const file = writeConfig(directory, config)
  const ready = Promise.withResolvers<{ public: { port: number }; internal: { port: number } }>()
  const flags = ['--host', '127.0.0.1', '--port', '0', '--internal-port', '0']
  const child = startChild({
    name: 'gateway',
    script: 'src/cli/main.ts',
    args: ['gateway', ...flags, '--config', file],
    env: { ...tokenVariables(tokens), ...env },
    ipc: true,
    onLine(line) {
      if (line.includes('"gateway ready"')) ready.resolve(JSON.parse(line))
    },
  })
  const ports = await orExit(child, ready.promise)
  return {
    publicPort: ports.public.port,
    internalPort: ports.internal.port,
    close: () => stop(child),
  }
}

/** The same in this process, for tests that look inside with a debugger. */
export async function gatewayInProcess(
  directory: string,
  config: Record<string, unknown>,
  tokens: Tokens,
): Promise<GatewayUnderTest> {
  const loaded = await loadConfig({
    file: writeConfig(directory, config),
    env: tokenVariables(tokens),
    flags: {
      '--host': { path: ['public', 'host'], value: '127.0.0.1' },
      '--port': { path: ['public', 'port'], value: 0 },
      '--internal-port': { path: ['internal', 'port'], value: 0 },
    },
  })
  return startGateway(loaded.config, loaded.tokens, createLogger('silent'))
}

function writeConfig(directory: string, config: Record<string, unknown>): string {
  const file = path.join(directory, 'gateway.json')
  writeFileSync(file, JSON.stringify(config))
  return file
}

function tokenVariables({ node, admin }: Tokens): Record<string, string> {
  return {
    ...(node === undefined ? {} : { EVENKEEL_NODE_TOKEN: node }),
    ...(admin === undefined ? {} : { EVENKEEL_ADMIN_TOKEN: admin }),
  }
}

async function stop(child: Child): Promise<void> {
  if (!child.running) throw new Error(`the gateway has crashed:\n${child.log()}`)
  const impatience = setTimeout(() => child.process.kill('SIGKILL'), closeMs)
  const { code, signal } = await kill(child, 'SIGTERM')
  clearTimeout(impatience)
  if (code !== 0) throw new Error(`the gateway ended with ${signal ?? `code ${code}`}:\n${child.log()}`)
}
