import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { acceptsConnections, freePort } from '../ports.ts'
import { type Child, descendantsOf, scratchDirectory, startChild, waitUntilReady } from '../processes.ts'
import { type Application, engineIoPath, type Peer } from './peer.ts'
import { startPlainApplication } from './plain.ts'

export async function startNginx(program: string, kind: Application = 'plain'): Promise<Peer> {
  const application = await startPlainApplication(kind)
  const { port, master, workers } = await runNginx(program, {
    workers: 1,
    upstream: `
    ${kind === 'socket.io' ? 'ip_hash;' : ''}
    server 127.0.0.1:${application.port};`,
    server: `
    location / {
      proxy_pass http://application;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
    }`,
  })
  return {
    name: 'nginx',
    port,
    path: kind === 'plain' ? '/' : engineIoPath,
    gateway: workers,
    node: [application.child.pid],
    children: [master, application.child],
  }
}

export interface NginxOptions {
  workers: number
  /** Further parameters of `listen`. */
  listen?: string
  /** Directives at the top of the configuration and in its only server. */
  top?: string
  server: string
  /** What stands in the only group of servers, `application`. */
  upstream?: string
}

export interface RunningNginx {
  port: number
  master: Child
  workers: number[]
}

export async function runNginx(program: string, options: NginxOptions): Promise<RunningNginx> {
  const port = await freePort()
  const directory = mkdtempSync(join(scratchDirectory(), 'nginx-'))
  // The worker gives up root and still has to reach its directories.
  chmodSync(scratchDirectory(), 0o755)
  chmodSync(directory, 0o755)
  const file = join(directory, 'nginx.conf')
  writeFileSync(file, configuration(directory, port, options))
  const master = startChild({ name: 'nginx', program, args: ['-e', 'stderr', '-p', directory, '-c', file] })
  // The master listens before it has workers.
  const isReady = async () =>
    descendantsOf(master.pid).length === options.workers && (await acceptsConnections(port))
  await waitUntilReady(master, isReady)
  return { port, master, workers: descendantsOf(master.pid) }
}

function configuration(directory: string, port: number, options: NginxOptions): string {
  const { workers, listen = '', top = '', server, upstream } = options
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `  ${kind}_temp_path ${join(directory, kind)};`,
  )
  return `${top}
worker_processes ${workers};
worker_rlimit_nofile 65536;
daemon off;
pid ${join(directory, 'nginx.pid')};
error_log stderr warn;
events {
  worker_connections 50000;
}
http {
  access_log off;
${temporary.join('\n')}${upstream === undefined ? '' : `\n  upstream application {${upstream}\n  }`}
  server {
    listen 127.0.0.1:${port} backlog=4096 ${listen};${server}
  }
}
`
}
