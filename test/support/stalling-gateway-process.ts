import { loadConfig } from '../../src/cli/config.ts'
import { createLogger } from '../../src/cli/logger.ts'
import { startGateway } from '../../src/cli/start-gateway.ts'

/** A gateway whose event loop stands still as often as it is told. Argument: a configuration file. */
const loaded = await loadConfig({
  file: process.argv[2]!,
  env: {},
  flags: {
    '--host': { path: ['public', 'host'], value: '127.0.0.1' },
    '--port': { path: ['public', 'port'], value: 0 },
    '--internal-port': { path: ['internal', 'port'], value: 0 },
  },
})
const gateway = await startGateway(loaded.config, loaded.tokens, createLogger('silent'))
let timer: NodeJS.Timeout | undefined

/** `ms` 0: no more. */
process.on('message', ({ ms, everyMs }: { ms: number; everyMs: number }) => {
  clearInterval(timer)
  if (ms > 0) timer = setInterval(() => stall(ms), everyMs)
})
process.send!({ publicPort: gateway.publicPort, internalPort: gateway.internalPort })

function stall(ms: number): void {
  const until = performance.now() + ms
  while (performance.now() < until);
}
