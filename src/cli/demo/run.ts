import type { DemoOptions } from '../commands/demo.ts'
import type { Demo } from './demo.ts'
import { createJsonDisplay } from './json-display.ts'
import { createTableDisplay } from './table-display.ts'

/** Closing takes less than this. */
const closeMs = 1_000
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Runs the demo until a key or a signal ends it. Throws ConfigError or CommandFailed. */
export async function runDemo(given: DemoOptions): Promise<void> {
  const options = { ...given, tty: given.tty && process.env.TERM !== 'dumb' }
  const end = Promise.withResolvers<void>()
  let quitAt: number | null = null
  const quit = () => {
    // The terminal and npm both pass Ctrl-C on, so a second signal is an order only when it comes later.
    if (quitAt !== null && performance.now() - quitAt > closeMs) process.exit(1)
    quitAt ??= performance.now()
    end.resolve()
  }
  for (const signal of signals) process.on(signal, quit)
  const display = options.tty ? createTableDisplay() : createJsonDisplay()
  const opening = openDemo(options)
  try {
    const live = async () => {
      const demo = await opening
      if (quitAt !== null) return
      display.attach(demo, quit)
      await demo.populate()
      if (quitAt !== null) return
      display.ready()
      await demo.failure
    }
    await Promise.race([live(), end.promise])
  } finally {
    display.close()
    const demo = await opening.catch(() => null)
    await demo?.close()
    for (const signal of signals) process.off(signal, quit)
  }
}

/** What takes time to load is loaded after the first paint. */
async function openDemo(options: DemoOptions): Promise<Demo> {
  const { Demo } = await import('./demo.ts')
  return Demo.open(options)
}
