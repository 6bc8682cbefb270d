import { existsSync } from 'node:fs'
import { topic } from '../../load/broadcast.ts'
import { firstMessage, startNodeScript } from '../../processes.ts'
import { runNginx } from '../nginx.ts'
import { Publisher } from './publisher.ts'
import type { FanoutSystem } from './system.ts'

const modules = ['/usr/lib/nginx/modules', '/usr/lib64/nginx/modules']

/** null when nginx has no nchan on this machine. */
export function nchanModule(): string | null {
  return modules.map((folder) => `${folder}/ngx_nchan_module.so`).find((file) => existsSync(file)) ?? null
}

/** The publisher is not counted: it is a client of nginx, not a part of it. */
export async function startNchan(program: string, module: string): Promise<FanoutSystem> {
  const { port, master, workers } = await runNginx(program, {
    workers: 2,
    // Without it one of two workers often takes most clients.
    listen: 'reuseport',
    top: `load_module ${module};`,
    server: `
    keepalive_requests 1000000;
    keepalive_timeout 1h;
    location ~ ^/publish/(\\w+)$ {
      nchan_publisher http;
      nchan_channel_id $1;
    }
    location ~ ^/subscribe/(\\w+)$ {
      nchan_subscriber websocket;
      nchan_channel_id $1;
      nchan_subscriber_first_message newest;
    }`,
  })
  const script = new URL('../../apps/http-publisher.ts', import.meta.url)
  const publisher = startNodeScript('nchan-publisher', script, ['--port', String(port)])
  await firstMessage(publisher)
  return {
    name: 'nchan',
    ports: [port],
    path: `/subscribe/${topic}`,
    dialect: 'plain',
    publisher: new Publisher(publisher),
    servers: [master.pid, ...workers],
    redis: [],
    children: [publisher, master],
  }
}
