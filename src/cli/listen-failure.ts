import type { GatewayConfig } from './config-schema.ts'
import { CommandFailed } from './errors.ts'

/** What to do about a port that cannot be had; null for any other error. */
export function listenFailure(error: unknown, config: GatewayConfig): CommandFailed | null {
  const { code, port, address } = error as NodeJS.ErrnoException & { port?: number; address?: string }
  const place = `${address ?? config.public.host}:${port ?? ''}`
  const remedies: Record<string, string> = {
    EADDRINUSE: 'another program listens there; stop it, or choose --port and --internal-port',
    EACCES: 'that port needs more rights; choose --port and --internal-port above 1023',
    EADDRNOTAVAIL: 'this machine has no such address; choose --host and --internal-host',
    ENOTSUP: 'this system does not let workers share a port (SO_REUSEPORT); set workers to 1',
  }
  const isTcp = config.tcp.some((one) => one.port === port)
  const remedy =
    code === undefined ? undefined : isTcp ? 'choose another port for that listener of tcp' : remedies[code]
  return remedy === undefined
    ? null
    : new CommandFailed(`Cannot listen on ${place}: ${remedy}.`, { cause: error })
}
