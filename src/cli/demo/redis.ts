import { once } from 'node:events'
import { CommandFailed } from '../errors.ts'
import { type ChildModule, startModule } from './child-module.ts'
import type { RedisMessage } from './redis-process.ts'

export interface DemoRedis extends ChildModule {
  readonly url: string
  close(): Promise<void>
}

/** A redis-server of the demo's own, on a free port of 127.0.0.1, that keeps nothing on disk. Throws CommandFailed. */
export async function startRedis(): Promise<DemoRedis> {
  // SIGKILL would leave redis-server behind.
  const child = startModule('./redis-process', [], { endSignal: 'SIGTERM' })
  const close = async () => {
    child.process.kill('SIGTERM')
    await child.ended
  }
  const answer = await Promise.race([
    once(child.process, 'message').then(([message]) => message as RedisMessage),
    child.ended.then((how): RedisMessage => ({ failure: `its keeper ${how}` })),
  ])
  if ('url' in answer) return { ...child, url: answer.url, close }
  await close()
  throw new CommandFailed(
    `Cannot start redis-server: ${answer.failure}. Is it installed? For example with: apt-get install redis-server`,
  )
}
