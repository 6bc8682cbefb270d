import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'

/** The first port from `from` on that nobody listens on; any for 0. Another program may take it before it is used. */
export async function freePort(host: string, from = 0): Promise<number> {
  for (let port = from; ; port++) {
    const server = createServer()
    try {
      await once(server.listen({ host, port }), 'listening')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') continue
      throw error
    }
    const found = (server.address() as AddressInfo).port
    await once(server.close(), 'close')
    return found
  }
}
