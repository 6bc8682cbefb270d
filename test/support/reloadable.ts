import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { onTestFinished } from 'vitest'
import { loadConfig } from '../../src/cli/config.ts'
import { createLogger } from '../../src/cli/logger.ts'
import { configOrigin } from '../../src/cli/running-config.ts'
import { startGateway } from '../../src/cli/start-gateway.ts'
import { AdminClient } from './admin-client.ts'
import type { TestGateway } from './in-process.ts'

export interface ReloadableGateway extends TestGateway {
  readonly file: string
  readonly admin: AdminClient
  /** Lines of its log. */
  readonly log: { readonly msg: string; readonly [key: string]: unknown }[]
  /** Replaces its file; a text is written as it is. */
  write(config: object | string): void
}

const listeners = { public: { host: '127.0.0.1', port: 0 }, internal: { host: '127.0.0.1', port: 0 } }

/** A gateway in this process that can read its file again; it ends with the test. */
export async function startReloadable(config: object = {}): Promise<ReloadableGateway> {
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-reload-'))
  const file = path.join(directory, 'gateway.yaml')
  const write = (wanted: object | string) =>
    writeFileSync(file, typeof wanted === 'string' ? wanted : JSON.stringify({ ...listeners, ...wanted }))
  write(config)
  const log: ReloadableGateway['log'] = []
  const logger = createLogger('info', { write: (line) => void log.push(JSON.parse(line)) })
  const load = () => loadConfig({ file, env: {} })
  const loaded = await load()
  const gateway = await startGateway(loaded.config, loaded.tokens, logger, null, configOrigin(file, load))
  onTestFinished(async () => {
    await gateway.close()
    rmSync(directory, { recursive: true })
  })
  return {
    ...gateway,
    file,
    log,
    write,
    admin: new AdminClient(`http://127.0.0.1:${gateway.internalPort}`, undefined),
    wsUrl: `ws://127.0.0.1:${gateway.publicPort}/ws`,
    httpUrl: `http://127.0.0.1:${gateway.publicPort}`,
    internalUrl: `http://127.0.0.1:${gateway.internalPort}`,
    linkUrl: `ws://127.0.0.1:${gateway.internalPort}`,
  }
}
