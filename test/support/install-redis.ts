import { installPackage } from './install-package.ts'

/** The tests want a real `redis-server`. Vitest runs this once, before all of them. */
export default function installRedis(): void {
  installPackage('redis-server', 'redis-server')
}
