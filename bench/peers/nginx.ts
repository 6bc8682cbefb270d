import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { acceptsConnections, freePort } from '../ports.ts'
import { descendantsOf, failure, scratchDirectory, startChild, waitUntilReady } from '../processes.ts'
import type { Peer } from './peer.ts'
import { startPlainApplication } from './plain.ts'

export async function startNginx(program: string): Promise<Peer> {
  const application = await startPlainApplication()
  const port = await freePort()
  const directory = mkdtempSync(join(scratchDirectory(), 'nginx-'))
  // The worker gives up root and still has to reach its directories.
  chmodSync(scratchDirectory(), 0o755)
  chmodSync(directory, 0o755)
  const file = join(directory, 'nginx.conf')
  writeFileSync(file, configuration(directory, port, application.port))
  const master = startChild({ name: 'nginx', program, args: ['-e', 'stderr', '-p', directory, '-c', file] })
  await waitUntilReady(master, () => acceptsConnections(port))
  const workers = descendantsOf(master.pid)
  if (workers.length !== 1) throw failure(master, `has ${workers.length} workers in place of one`)
  return {
    name: 'nginx',
    port,
    path: '/',
    gateway: workers,
    node: [application.child.pid],
    children: [master, application.child],
  }
}

function configuration(directory: string, port: number, upstreamPort: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `  ${kind}_temp_path ${join(directory, kind)};`,
  )
  return `worker_processes 1;
worker_rlimit_nofile 65536;
daemon off;
pid ${join(directory, 'nginx.pid')};
error_log stderr warn;
events {
  worker_connections 50000;
}
http {
  access_log off;
${temporary.join('\n')}
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / {
      proxy_pass http://127.0.0.1:${upstreamPort};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
    }
  }
}
`
}
