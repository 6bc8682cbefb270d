import { EventEmitter } from 'node:events'
import { type IncomingMessage, ServerResponse } from 'node:http'

type EngineMiddleware = (
  request: IncomingMessage,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => void

/** What Socket.IO and applications use of an engine.io server, `io.engine`. */
export class VirtualEngine extends EventEmitter {
  clientsCount = 0
  readonly opts = {}
  private readonly middlewares: EngineMiddleware[] = []
  private readonly closed: () => void

  constructor(closed: () => void) {
    super()
    this.closed = closed
  }

  use(middleware: EngineMiddleware): this {
    this.middlewares.push(middleware)
    return this
  }

  /** What `io.close()` calls last. */
  close(): this {
    this.closed()
    return this
  }

  get hasMiddlewares(): boolean {
    return this.middlewares.length > 0
  }

  /** Rejects with what a middleware says. */
  async runMiddlewares(request: IncomingMessage): Promise<void> {
    const response = new ServerResponse(request)
    for (const middleware of [...this.middlewares]) {
      await new Promise<void>((resolve, reject) => {
        middleware(request, response, (error) =>
          error === undefined || error === null ? resolve() : reject(error),
        )
      })
    }
  }
}
